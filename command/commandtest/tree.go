package commandtest

import (
	"math"

	"keelson/command"
)

// treeSecond is a second of the moments that tree ops name; treeStart is the first of them.
const (
	treeSecond = int64(1e9)
	treeStart  = 1767225600 * treeSecond
)

// TreeOp makes an op of the v2 tree, over a small space of paths.
func (g *Generator) TreeOp() command.Op {
	switch n := g.R.IntN(11); {
	case n == 10:
		return g.treeAccess()
	case n < 2:
		o := &command.TreeDelete{Path: g.Path(), Compare: g.chance(3), Dir: g.chance(2), Recursive: g.chance(3)}
		o.PrevValue, o.PrevIndex = g.previous()
		return o
	case n < 3:
		o := &command.TreeExpire{Stamp: g.moment(), Limit: int64(g.R.IntN(5))}
		if g.Wild && g.chance(4) {
			o.Stamp, o.Limit = int64(g.R.Uint64()), int64(g.R.Uint64())
		}
		return o
	}
	o := &command.TreePut{
		Path: g.Path(), Mode: command.TreePutMode(g.R.IntN(5)), Dir: g.chance(4), Value: g.value(), Refresh: g.chance(8),
	}
	o.PrevValue, o.PrevIndex = g.previous()
	if g.chance(3) {
		o.Deadline = g.moment()
	}
	if g.Wild && g.chance(16) {
		o.Deadline = []int64{-1, 1, math.MaxInt64, math.MinInt64}[g.R.IntN(4)]
	}
	return o
}

// Path makes a path of the v2 tree.
func (g *Generator) Path() string {
	if g.Wild && g.chance(16) {
		return []string{"", "x", "//", "/a/", "/..", "/\x00", "/\x01/\xff"}[g.R.IntN(7)]
	}
	path := ""
	for range g.R.IntN(4) {
		path += "/" + []string{"a", "b", "ab", "_h"}[g.R.IntN(4)]
	}
	if path == "" {
		return "/"
	}
	return path
}

func (g *Generator) moment() int64 { return treeStart + g.R.Int64N(60)*treeSecond/4 }

// previous makes what a comparison is with.
func (g *Generator) previous() (value []byte, index uint64) {
	if g.chance(3) {
		value = g.value()
	}
	if g.chance(3) {
		index = g.R.Uint64N(40)
	}
	return value, index
}

// treeAccess makes a change of users, roles, or whether they count.
func (g *Generator) treeAccess() command.Op {
	mode, names := command.TreeAccessMode(g.R.IntN(4)), func() (list []string) {
		for range g.R.IntN(3) {
			list = append(list, []string{"root", "guest", "r", "/a*"}[g.R.IntN(4)])
		}
		return list
	}
	given := func() []string { // of what is new: empty is something else than nil
		if g.chance(4) {
			return []string{}
		}
		return names()
	}
	name := []string{"root", "guest", "r"}[g.R.IntN(3)]
	switch g.R.IntN(3) {
	case 0:
		return &command.TreeUser{Name: name, Mode: mode, Hash: g.value(), Roles: given(), Grant: names(), Revoke: names()}
	case 1:
		return &command.TreeRole{
			Name: name, Mode: mode, Read: given(), Write: given(), GrantRead: names(), GrantWrite: names(), RevokeRead: names(), RevokeWrite: names(),
		}
	}
	return &command.TreeAccess{Enabled: g.chance(2)}
}
