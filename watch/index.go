package watch

// index finds the groups that watch a key. Groups of a single key are in a map; those of a range in an interval tree: a
// treap ordered by span, each node of which knows the greatest upper bound below it. Guarded by hub.mu.
type index struct {
	keys   map[string]*group
	root   *node
	ranges int
	seed   uint64 // of the priorities; the shape of the tree need not be unpredictable, only balanced
}

type node struct {
	group       *group
	left, right *node
	priority    uint64
	// The greatest upper bound in the subtree.
	maxUpper string
	maxOpen  bool
}

func newIndex() *index { return &index{keys: make(map[string]*group), seed: 1} }

// len is the number of groups.
func (x *index) len() int { return len(x.keys) + x.ranges }

// find returns the group of exactly r, nil if there is none.
func (x *index) find(r span) *group {
	if r.single() {
		return x.keys[r.lower]
	}
	for n := x.root; n != nil; {
		switch c := r.compare(n.group.span); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.group
		}
	}
	return nil
}

// insert adds a group whose span has none yet.
func (x *index) insert(g *group) {
	if g.span.single() {
		x.keys[g.span.lower] = g
		return
	}
	x.ranges++
	x.seed ^= x.seed << 13
	x.seed ^= x.seed >> 7
	x.seed ^= x.seed << 17
	fresh := &node{group: g, priority: x.seed}
	x.root = x.root.insert(fresh)
}

// remove takes out g, which is in the index.
func (x *index) remove(g *group) {
	if g.span.single() {
		delete(x.keys, g.span.lower)
		return
	}
	x.ranges--
	x.root = x.root.remove(g.span)
}

// each calls f with every group whose span contains key.
func (x *index) each(key []byte, f func(*group)) {
	if g := x.keys[string(key)]; g != nil {
		f(g)
	}
	x.root.stab(key, f)
}

// all calls f with every group, the single keys in no order.
func (x *index) all(f func(*group)) {
	for _, g := range x.keys {
		f(g)
	}
	x.root.walk(f)
}

func (n *node) walk(f func(*group)) {
	if n == nil {
		return
	}
	n.left.walk(f)
	f(n.group)
	n.right.walk(f)
}

func (n *node) stab(key []byte, f func(*group)) {
	for n != nil && (n.maxOpen || string(key) < n.maxUpper) {
		n.left.stab(key, f)
		if string(key) < n.group.span.lower {
			return // so do all on the right
		}
		if n.group.span.contains(key) {
			f(n.group)
		}
		n = n.right
	}
}

// update recomputes the greatest upper bound from the children's.
func (n *node) update() *node {
	n.maxUpper, n.maxOpen = n.group.span.upper, n.group.span.open
	for _, child := range [2]*node{n.left, n.right} {
		if child != nil && compareUppers(n.maxUpper, n.maxOpen, child.maxUpper, child.maxOpen) < 0 {
			n.maxUpper, n.maxOpen = child.maxUpper, child.maxOpen
		}
	}
	return n
}

func (n *node) insert(fresh *node) *node {
	if n == nil {
		return fresh.update()
	}
	if fresh.priority > n.priority {
		fresh.left, fresh.right = n.split(fresh.group.span)
		return fresh.update()
	}
	if fresh.group.span.compare(n.group.span) < 0 {
		n.left = n.left.insert(fresh)
	} else {
		n.right = n.right.insert(fresh)
	}
	return n.update()
}

// split cuts the tree into the spans below r and those above.
func (n *node) split(r span) (below, above *node) {
	if n == nil {
		return nil, nil
	}
	if n.group.span.compare(r) < 0 {
		n.right, above = n.right.split(r)
		return n.update(), above
	}
	below, n.left = n.left.split(r)
	return below, n.update()
}

func (n *node) remove(r span) *node {
	switch c := r.compare(n.group.span); {
	case c < 0:
		n.left = n.left.remove(r)
	case c > 0:
		n.right = n.right.remove(r)
	default:
		return n.left.join(n.right)
	}
	return n.update()
}

// join makes one tree of two; every span of n is below every one of o.
func (n *node) join(o *node) *node {
	switch {
	case n == nil:
		return o
	case o == nil:
		return n
	case n.priority > o.priority:
		n.right = n.right.join(o)
		return n.update()
	}
	o.left = n.join(o.left)
	return o.update()
}
