// Package inspect is the tools that work without a server: what is in a data directory or a snapshot, whether it is whole,
// what can be repaired, and the doors to and from etcd. Called by the name etcdutl it is that tool, flag for flag.
//
// It owns the command lines and the reports; the formats belong to raftlog, state, datadir and etcdfile, and restoring to
// the server package. A data directory is locked while it is looked at, so that no member runs on it meanwhile. Nothing is
// changed but by restore, import and repair, which say what they do.
//
// Only cmd/keelson calls it: Etcdutl for the whole program, Commands for what keelson takes in.
package inspect
