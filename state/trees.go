package state

import (
	"keelson/command"
	"keelson/state/tree"
)

// applyTree carries out an op of the v2 tree. What the tree refuses stands in the result like what it did: both are answers.
func (r *run) applyTree(op command.Op, time int64, res *Result) error {
	var err error
	switch o := op.(type) {
	case *command.TreePut:
		res.Tree, res.TreeRefusal, err = r.tree.Put(o, time)
	case *command.TreeDelete:
		res.Tree, res.TreeRefusal, err = r.tree.Delete(o, time)
	case *command.TreeExpire:
		before := len(r.tree.Events())
		err = r.tree.Expire(o)
		r.out.Counts.Tree.Expired += uint64(len(r.tree.Events()) - before)
	}
	r.out.Counts.noteTree(op, res.TreeRefusal == nil)
	return err
}

// applyTreeAccess carries out a change of the v2 API's users and roles.
func (r *run) applyTreeAccess(op command.Op, res *Result) error {
	var err error
	switch o := op.(type) {
	case *command.TreeUser:
		res.TreeUser, res.Made, res.TreeRefusal, err = r.tree.User(o)
	case *command.TreeRole:
		res.TreeRole, res.TreeRefusal, err = r.tree.Role(o)
	case *command.TreeAccess:
		res.TreeRefusal, err = r.tree.SetAccess(o)
	}
	return err
}

// TreeCount counts ops of the v2 tree that were carried out, and those that were refused.
type TreeCount struct{ Done, Refused uint64 }

// TreeCounts counts the ops of the v2 tree by what they asked for.
type TreeCounts struct {
	Set, Create, Update, CompareAndSwap, Delete, CompareAndDelete TreeCount
	Expired                                                       uint64 // nodes
}

func (c *Counts) noteTree(op command.Op, done bool) {
	var count *TreeCount
	switch o := op.(type) {
	case *command.TreePut:
		count = []*TreeCount{
			command.TreeSet: &c.Tree.Set, command.TreeCreate: &c.Tree.Create, command.TreeCreateInOrder: &c.Tree.Create,
			command.TreeUpdate: &c.Tree.Update, command.TreeCompareAndSwap: &c.Tree.CompareAndSwap,
		}[o.Mode]
	case *command.TreeDelete:
		count = &c.Tree.Delete
		if o.Compare {
			count = &c.Tree.CompareAndDelete
		}
	default:
		return
	}
	if done {
		count.Done++
	} else {
		count.Refused++
	}
}

// Tree opens a view of the v2 tree as it stands now. Close it before this view.
func (v *View) Tree() (*tree.View, error) { return tree.Open(v.store.db) }

// TreeFile returns a file of the v2 tree, and an index of the tree as of which it is so; nil: there is none at the path, or
// that is a directory. It costs less than Tree.
func (v *View) TreeFile(path string) (n *tree.Node, index uint64, err error) {
	if n, err = v.store.trees.File(v.store.db, path); err != nil || n == nil {
		return nil, 0, err
	}
	// What is read may be newer than what was published when the view was made. Then it was the last to change this file.
	return n, max(v.published.tree.Index, n.Modified), nil
}

// TreeState is how the v2 tree stood when the view was made.
func (v *View) TreeState() tree.State { return v.published.tree }

// TreeDue reports whether any deadline of the v2 tree is not later than now, in nanoseconds since 1970.
func (m *Machine) TreeDue(now int64) (bool, error) {
	v := m.View() // keeps the database open
	defer v.Close()
	return v.store.trees.Due(v.store.db, now)
}
