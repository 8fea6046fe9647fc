package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"keelson/command"
)

// path is a path in the v2 tree: of a node that is there, or of one out of a few.
func (l *load) path(rng *rand.Rand, f *forest) string {
	if all := slices.Sorted(maps.Keys(f.nodes)); len(all) > 0 && rng.IntN(2) == 0 {
		if p := all[rng.IntN(len(all))]; !strings.HasPrefix(p, "/x") { // no register
			return p
		}
	}
	path := ""
	for range 1 + rng.IntN(3) {
		path += "/" + []string{"a", "b", "ab", "_h"}[rng.IntN(4)]
	}
	return path
}

// treeOp is what a client of the v2 API asks for at a moment by the wall clock of the member that it asks.
func (l *load) treeOp(rng *rand.Rand, f *forest, now int64) command.Op {
	if rng.IntN(4) == 0 {
		g := generator(rng)
		return g.TreeOp()
	}
	path := l.path(rng, f)
	node := f.nodes[path]
	var value []byte
	var index uint64
	if rng.IntN(2) == 0 {
		value = node.Value
	}
	switch rng.IntN(4) {
	case 0:
		index = node.Modified
	case 1:
		index = rng.Uint64N(f.index + 2)
	}
	if n := rng.IntN(20); n < 3 || len(f.nodes) > 60 && n < 10 { // and so it does not grow without end
		return &command.TreeDelete{Path: path, Dir: rng.IntN(2) == 0, Recursive: n > 0}
	} else if n < 5 {
		return &command.TreeDelete{Path: path, Compare: true, PrevValue: value, PrevIndex: index}
	}
	o := &command.TreePut{Path: path, Mode: command.TreePutMode(rng.IntN(5)), Dir: rng.IntN(6) == 0, Refresh: rng.IntN(8) == 0}
	if !o.Dir && !o.Refresh {
		l.written++
		o.Value = fmt.Appendf(nil, "t%d", l.written)
	}
	if rng.IntN(3) == 0 {
		o.Deadline = now + (1+rng.Int64N(8))*int64(time.Second)
	}
	if o.Mode == command.TreeCompareAndSwap {
		o.PrevValue, o.PrevIndex = value, index
	}
	return o
}
