// Package etcdfile reads and writes the files in which etcd hands out a whole state: what `etcdctl snapshot save` saves,
// `etcdutl snapshot restore` takes, and etcd itself keeps as member/snap/db. They are the door out of Keelson and the door in.
//
// It owns the format: a bbolt file with etcd's buckets, keys and encodings (schema.go; docs/formats/etcd-snapshot.md), and
// behind it, in a snapshot, the SHA-256 of the file. What is in the state, and where it comes from or goes to, is left to
// the caller (state.Export and state.Import): here it flows in or out in the order of revisions, one record at a time, so
// that neither side holds more than a record.
//
// Invariants: a Writer refuses versions that do not come in ascending order; a Reader changes nothing of the file, and
// treats it as bytes from outside: whatever is in it leads to an error at worst.
//
// A Writer or Reader belongs to one goroutine. Anybody may use the package; it knows nothing else of this project.
package etcdfile
