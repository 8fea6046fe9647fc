// Package config holds every setting of a member, each defined once, and gathers their values from the command line,
// the environment or a file.
//
// A setting is one struct field whose tags give its flag name, default, unit and help line. From them follow the
// environment variable (ETCD_ and the name in capitals) and the key in a configuration file (the name, unless a tag
// says otherwise). Settings that belong to one package are fields of that package's Options, gathered here; settings
// that several parts read are fields of the sections declared here.
//
// In flow arguments, environment and file contents; out flow a *Config, which is complete, validated and never changed
// afterwards, and Notes: the log lines that the gathering earned, for whoever makes the logger. What ends the process
// instead (help, version, a refused value) comes back as an *Exit. The package reads no clock, starts nothing and keeps no
// state; what it needs to know about the machine comes through Machine.
//
// Only cmd and server call Load; everything below server is given the values it needs.
//
// Source: the operations specification, chapter 1.
package config
