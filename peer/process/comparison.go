package process

import (
	"flag"
	"os"
	"sync"
)

// BinaryFlag defines the flag of a test program that says which binary is compared: from $KEELSON or, seen from a folder of this module, the one
// that is built beside it.
func BinaryFlag() *string {
	path := os.Getenv("KEELSON")
	if path == "" {
		path = "../../bin/keelson"
	}
	return flag.String("keelson", path, "`path` of the binary under test; also from $KEELSON")
}

// Book takes note of the rules that have applied, by name: one that never does is to be taken out. The zero value is empty. It may be
// used by several goroutines.
type Book struct {
	mu   sync.Mutex
	used map[string]bool
}

// Use takes note of a rule.
func (b *Book) Use(rule string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used == nil {
		b.used = map[string]bool{}
	}
	b.used[rule] = true
}

// IsUsed reports whether a rule has been noted.
func (b *Book) IsUsed(rule string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used[rule]
}
