package tree

import (
	"bytes"
	"fmt"
	"strings"
)

// Bounds of a path. Ancestors are made with a node, so a path without bounds would make much of little.
const (
	PathBytesMax = 32 << 10
	DepthMax     = 512
)

// Root is the path of the root.
const Root = "/"

// CheckPath returns what is wrong with a path, in words; empty if nothing is. Every component of a path is preceded by a
// slash and is neither empty nor "." nor "..". The root's path is a slash alone.
func CheckPath(path string) string {
	if path == Root {
		return ""
	}
	if len(path) > PathBytesMax {
		return fmt.Sprintf("key is longer than %d bytes", PathBytesMax)
	}
	if strings.Count(path, "/") > DepthMax {
		return fmt.Sprintf("key has more than %d levels", DepthMax)
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "key does not begin with a slash"
	}
	for name := range strings.SplitSeq(rest, "/") {
		switch name {
		case "", ".", "..":
			return fmt.Sprintf("key has a component %q", name)
		}
	}
	return ""
}

// parent is the path of the directory that a path other than the root's is in.
func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return Root
}

// join is the path of a name in a directory.
func join(dir, name string) string {
	if dir == Root {
		return Root + name
	}
	return dir + "/" + name
}

// below is the path of the component of path that follows on an ancestor of it.
func below(ancestor, path string) string {
	start := len(ancestor) + 1
	if ancestor == Root {
		start = 1
	}
	if i := strings.IndexByte(path[start:], '/'); i >= 0 {
		return path[:start+i]
	}
	return path
}

// Base is the last component of a path.
func Base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// IsHidden reports whether a node of this name is left out of listings.
func IsHidden(name string) bool { return strings.HasPrefix(name, "_") }

// Covers reports whether path is dir or below it.
func Covers(dir, path string) bool {
	return dir == Root || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// The first byte of a key in the table says what it is.
const (
	keyNode     = 'n' // path -> node
	keyDeadline = 'x' // deadline, path -> nothing
	keyEvent    = 'e' // index -> event
	keyPosition = 'i' // -> index and where the window of events begins
)

// Within a key a path is its components with a byte 0 between them, so that what is below a directory follows on it, in
// order of names at every level. Bytes 0 and 1 in a name become 1 1 and 1 2.
const (
	separator = 0x00
	escape    = 0x01
)

// appendPath appends a path as it stands in keys. The root is nothing.
func appendPath(dst []byte, path string) []byte {
	if path == Root {
		return dst
	}
	for i := 1; i < len(path); i++ {
		switch c := path[i]; c {
		case '/':
			dst = append(dst, separator)
		case 0, 1:
			dst = append(dst, escape, c+1)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// decodePath is the inverse of appendPath, for a path that is not the root's.
func decodePath(b []byte) string {
	var path strings.Builder
	path.Grow(len(b) + 1)
	path.WriteByte('/')
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == separator:
			path.WriteByte('/')
		case c == escape && i+1 < len(b):
			i++
			path.WriteByte(b[i] - 1)
		default:
			path.WriteByte(c)
		}
	}
	return path.String()
}

// nodeKey is the key of a node.
func nodeKey(path string) []byte { return appendNodeKey(make([]byte, 0, len(path)+8), path) }

func appendNodeKey(dst []byte, path string) []byte { return appendPath(append(dst, keyNode), path) }

// subtree are the bounds of what is below a directory: lower <= key < upper.
func subtree(path string) (lower, upper []byte) {
	if path == Root {
		return []byte{keyNode}, []byte{keyNode + 1}
	}
	lower = append(nodeKey(path), separator)
	upper = bytes.Clone(lower)
	upper[len(upper)-1]++
	return lower, upper
}
