package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The index finds what looking at every span finds, while spans come and go.
func TestIndexFindsWhatAScanFinds(t *testing.T) {
	eachSeed(t, func(t *testing.T, r *rand.Rand) {
		x := newIndex()
		present := make(map[span]*group)
		key := func() []byte {
			b := make([]byte, 1+r.IntN(3))
			for i := range b {
				b[i] = "\x00ab\xff"[r.IntN(4)]
			}
			return b
		}
		for range 300 {
			s, ok := newSpan(key(), [][]byte{nil, {0}, key()}[r.IntN(3)])
			if !ok {
				continue
			}
			switch g := present[s]; {
			case x.find(s) != g:
				t.Fatalf("find %+v: %v, want %v", s, x.find(s), g)
			case g == nil:
				present[s] = &group{span: s}
				x.insert(present[s])
			case r.IntN(2) == 0:
				delete(present, s)
				x.remove(g)
			}
			checkTree(t, x.root)
			if x.len() != len(present) {
				t.Fatalf("%d groups, want %d", x.len(), len(present))
			}
			k := key()
			var got, want []span
			x.each(k, func(g *group) { got = append(got, g.span) })
			for s := range present {
				if s.contains(k) {
					want = append(want, s)
				}
			}
			slices.SortFunc(got, span.compare)
			slices.SortFunc(want, span.compare)
			if !slices.Equal(got, want) {
				t.Fatalf("key %q: %+v, want %+v", k, got, want)
			}
		}
		n := 0
		x.all(func(*group) { n++ })
		if n != len(present) {
			t.Errorf("all found %d of %d", n, len(present))
		}
	})
}

// checkTree checks order, heap property and the greatest upper bounds.
func checkTree(t *testing.T, n *node) {
	if n == nil {
		return
	}
	upper, open := n.group.span.upper, n.group.span.open
	for i, child := range []*node{n.left, n.right} {
		if child == nil {
			continue
		}
		if c := child.group.span.compare(n.group.span); c == 0 || c < 0 != (i == 0) || child.priority > n.priority {
			t.Fatalf("%+v below %+v", child.group.span, n.group.span)
		}
		checkTree(t, child)
		if compareUppers(upper, open, child.maxUpper, child.maxOpen) < 0 {
			upper, open = child.maxUpper, child.maxOpen
		}
	}
	if upper != n.maxUpper || open != n.maxOpen {
		t.Fatalf("greatest upper bound %q %v, want %q %v", n.maxUpper, n.maxOpen, upper, open)
	}
}

func (n *node) depth() int {
	if n == nil {
		return 0
	}
	return 1 + max(n.left.depth(), n.right.depth())
}

// Spans in ascending order, and nested ones, leave the tree shallow.
func TestIndexStaysShallow(t *testing.T) {
	const n = 30_000
	for name, make := range map[string]func(i int) (key, end string){
		"ascending": func(i int) (string, string) { return fmt.Sprintf("%06d", i), fmt.Sprintf("%06d~", i) },
		"nested":    func(i int) (string, string) { return fmt.Sprintf("%06d", i), fmt.Sprintf("%06d", 2*n-i) },
		"open":      func(i int) (string, string) { return fmt.Sprintf("%06d", i), "\x00" },
	} {
		x := newIndex()
		for i := range n {
			key, end := make(i)
			s, _ := newSpan([]byte(key), []byte(end))
			x.insert(&group{span: s})
		}
		if d := x.root.depth(); d > 60 {
			t.Errorf("%s: depth %d", name, d)
		}
	}
}

func TestSpanOfOneKey(t *testing.T) {
	for _, test := range []struct {
		key, end string
		single   bool
	}{
		{"a", "", true}, {"a", "a\x00", true}, {"a", "a\x01", false}, {"a", "b\x00", false}, {"a", "\x00", false},
		{"a", "aa", false}, {"\x00", "\x00\x00", true}, {"\x00", "\x00", false},
	} {
		s, ok := newSpan([]byte(test.key), []byte(test.end))
		if !ok || s.single() != test.single {
			t.Errorf("%q %q: single %v, selects something %v", test.key, test.end, s.single(), ok)
		}
	}
}
