package etcddir

import (
	"fmt"
	"strings"
	"time"
)

// NewStore makes an empty store to be filled with Put. index is that of its newest change; nothing is known of what was before.
func NewStore(index uint64) *Store {
	return &Store{Index: index, Floor: index + 1, root: &storeNode{Children: map[string]*storeNode{}}}
}

// Put adds a node, or says once more what one is; what is in a directory stays. Directories above it that nobody has put yet
// are made, without indexes. Errors: that the path is none, or leads through a file.
func (s *Store) Put(n StoreNode) error {
	rest, ok := strings.CutPrefix(n.Path, "/")
	if !ok || rest == "" {
		return fmt.Errorf("etcddir: %.60q is no path of a node", n.Path)
	}
	at := s.root
	for name := range strings.SplitSeq(rest, "/") {
		if name == "" {
			return fmt.Errorf("etcddir: %.60q is no path of a node", n.Path)
		}
		if at.Children == nil {
			return fmt.Errorf("etcddir: %.60q leads through a file", n.Path)
		}
		next := at.Children[name]
		if next == nil {
			next = &storeNode{Children: map[string]*storeNode{}}
			at.Children[name] = next
		}
		at = next
	}
	if !n.Dir && len(at.Children) > 0 {
		return fmt.Errorf("etcddir: %.60q is a file, and there is something in it", n.Path)
	}
	at.Value, at.CreatedIndex, at.ModifiedIndex, at.ExpireTime = n.Value, n.Created, n.Modified, time.Time{}
	if !n.Dir {
		at.Children = nil
	}
	if n.Deadline != 0 {
		at.ExpireTime = time.Unix(0, n.Deadline).UTC()
	}
	return nil
}
