// Package mvcc holds keys, revisions, ranges and compaction.
package mvcc
