// Command keelson is the one binary: it looks at the name it was called by, then at its first argument, and calls one
// function.
//
//	keelson serve [flags]     run a member
//	keelson join --peer URL   make this machine a member of a running cluster, then the same
//	keelson dev [flags]       run a cluster of several members on this machine
//	keelson bench ...         put load on a server
//	keelson version           print versions
//	etcd [flags]              (a link to keelson) the same as keelson serve
//
// It owns the words of the command line and nothing else. Settings are package config's, exit codes are those of the
// function called.
package main
