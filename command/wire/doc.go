// Package wire makes commands of the messages of the v3 API, as clients send them and as they stand in etcd's raft log.
//
// The messages have been checked: by package api/v3 before they are proposed, or by the etcd that had them in its log. The
// commands alias their bytes. It decides nothing, and knows no more than what is written in a message.
package wire
