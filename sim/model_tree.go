package sim

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keelson/command"
	"keelson/state"
	"keelson/state/tree"
)

// forest is the v2 tree as the specification tells it: a map of all nodes, and its users and roles.
type forest struct {
	nodes  map[string]tree.Node
	index  uint64
	access access
}

// access is who may do what in the v2 API.
type access struct {
	enabled, used bool
	users         map[string]accessUser
	roles         map[string][2][]string // patterns to read and to write
}

type accessUser struct {
	hash  string
	roles []string
}

func newForest(members int) *forest {
	return &forest{
		nodes: map[string]tree.Node{}, index: uint64(2*members + 1),
		access: access{users: map[string]accessUser{}, roles: map[string][2][]string{}},
	}
}

// clone is the same tree. Users and roles are not asked for as of an earlier entry, and stay the model's.
func (f *forest) clone() *forest {
	c := *f
	c.nodes = maps.Clone(f.nodes)
	return &c
}

// year2000 is the moment before which a deadline is none, in nanoseconds since 1970.
const year2000 = 946684800 * int64(1e9)

func refusal(code tree.Code, cause string) *tree.Error { return &tree.Error{Code: code, Cause: cause} }

// ancestors are those of a path, from the top.
func ancestors(path string) (list []string) {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			list = append(list, path[:i])
		}
	}
	return list
}

// obstacle is the refusal of a walk to path: a file in the way, or what is missing.
func (f *forest) obstacle(path string) *tree.Error {
	if path == tree.Root {
		return nil
	}
	for _, p := range append(ancestors(path), path) {
		n, ok := f.nodes[p]
		if !ok {
			return refusal(tree.CodeKeyNotFound, p)
		}
		if p != path && !n.Dir {
			return refusal(tree.CodeNotDir, p)
		}
	}
	return nil
}

func (f *forest) below(dir string) (paths []string) {
	for p := range f.nodes {
		if strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") {
			paths = append(paths, p)
		}
	}
	return paths
}

func (f *forest) note(e *tree.Event) *tree.Event {
	f.index++
	e.Node.Modified = f.index
	return e
}

func (f *forest) remove(path string, a tree.Action, now int64) *tree.Event {
	prev := f.nodes[path]
	for _, p := range f.below(path) {
		delete(f.nodes, p)
	}
	delete(f.nodes, path)
	return f.note(&tree.Event{Action: a, Time: now, Node: tree.Node{Path: path, Dir: prev.Dir, Created: prev.Created}, Prev: &prev})
}

// apply carries out an op of the v2 tree that was proposed at now; known is false for any other.
func (f *forest) apply(op command.Op, now int64, r *state.Result) (events []*tree.Event, known bool) {
	switch o := op.(type) {
	case *command.TreePut:
		r.Tree, r.TreeRefusal = f.put(o, now)
	case *command.TreeDelete:
		r.Tree, r.TreeRefusal = f.delete(o, now)
	case *command.TreeExpire:
		events = f.expire(o)
	case *command.TreeUser:
		r.TreeRefusal = f.changeUser(o)
	case *command.TreeRole:
		r.TreeRefusal = f.changeRole(o)
	case *command.TreeAccess:
		r.TreeRefusal = f.setAccess(o.Enabled)
	default:
		return nil, false
	}
	if r.TreeRefusal != nil {
		r.TreeRefusal.Index = f.index
	}
	if r.Tree != nil {
		events = append(events, r.Tree)
	}
	return events, true
}

// checkPaths refuses what is no path to write to.
func checkPaths(paths ...string) *tree.Error {
	for _, p := range paths {
		if wrong := tree.CheckPath(p); wrong != "" {
			return refusal(tree.CodeInvalidField, wrong)
		}
	}
	if paths[len(paths)-1] == tree.Root {
		return refusal(tree.CodeRootReadOnly, tree.Root)
	}
	return nil
}

func (f *forest) put(o *command.TreePut, now int64) (*tree.Event, *tree.Error) {
	path := o.Path
	if o.Mode == command.TreeCreateInOrder {
		path = fmt.Sprintf("%s/%020d", strings.TrimSuffix(path, "/"), f.index+1)
	}
	if wrong := checkPaths(o.Path, path); wrong != nil {
		return nil, wrong
	}
	obstacle := f.obstacle(path)
	if obstacle != nil && obstacle.Code == tree.CodeNotDir {
		return nil, obstacle
	}
	e := &tree.Event{Time: now, Node: tree.Node{Path: path}}
	if o.Deadline >= year2000 {
		e.Node.Deadline = o.Deadline
	}
	prev, there := f.nodes[path]
	if there {
		e.Prev = &prev
	}
	if o.Mode == command.TreeUpdate || o.Mode == command.TreeCompareAndSwap {
		return f.update(o, e, obstacle)
	}
	value := o.Value
	e.Action, e.Refresh = tree.ActionCreate, o.Refresh && o.Mode == command.TreeSet
	switch {
	case o.Mode != command.TreeSet && there:
		return nil, refusal(tree.CodeExists, path)
	case e.Refresh && !there:
		return nil, obstacle
	case there && prev.Dir:
		return nil, refusal(tree.CodeNotFile, path)
	case o.Mode == command.TreeSet:
		e.Action = tree.ActionSet
	}
	if e.Refresh {
		value = prev.Value
	}
	e.Node.Dir, e.Node.Created = o.Dir, f.index+1
	if !o.Dir {
		e.Node.Value = value
	}
	for _, p := range ancestors(path) {
		if _, ok := f.nodes[p]; !ok {
			f.nodes[p] = tree.Node{Path: p, Dir: true, Created: f.index + 1, Modified: f.index + 1}
		}
	}
	f.note(e)
	f.nodes[path] = e.Node
	return e, nil
}

// update changes a node that has to be there, and compares first if it is asked to.
func (f *forest) update(o *command.TreePut, e *tree.Event, obstacle *tree.Error) (*tree.Event, *tree.Error) {
	prev, swap := e.Prev, o.Mode == command.TreeCompareAndSwap
	e.Action, e.Refresh = tree.ActionUpdate, o.Refresh
	switch {
	case prev == nil:
		return nil, obstacle
	case prev.Dir && (swap || len(o.Value) > 0):
		return nil, refusal(tree.CodeNotFile, prev.Path)
	case swap:
		e.Action = tree.ActionCompareAndSwap
		if cause := unlike(prev, o.PrevValue, o.PrevIndex); cause != "" {
			return nil, refusal(tree.CodeCompareFailed, cause)
		}
	}
	e.Node.Dir, e.Node.Created = prev.Dir, prev.Created
	switch {
	case prev.Dir:
	case o.Refresh:
		e.Node.Value = prev.Value
	default:
		e.Node.Value = o.Value
	}
	f.note(e)
	stored := e.Node
	if prev.Dir {
		stored.Modified = prev.Modified
	}
	f.nodes[prev.Path] = stored
	return e, nil
}

// unlike says how a file differs from what it is compared with.
func unlike(n *tree.Node, value []byte, index uint64) string {
	var parts []string
	if len(value) > 0 && !bytes.Equal(value, n.Value) {
		parts = append(parts, fmt.Sprintf("[%s != %s]", value, n.Value))
	}
	if index != 0 && index != n.Modified {
		parts = append(parts, fmt.Sprintf("[%v != %v]", index, n.Modified))
	}
	return strings.Join(parts, " ")
}

func (f *forest) delete(o *command.TreeDelete, now int64) (*tree.Event, *tree.Error) {
	if o.Compare && o.Path == tree.Root {
		return nil, refusal(tree.CodeNotFile, "")
	}
	if wrong := checkPaths(o.Path); wrong != nil {
		return nil, wrong
	}
	if obstacle := f.obstacle(o.Path); obstacle != nil {
		return nil, obstacle
	}
	n := f.nodes[o.Path]
	action := tree.ActionDelete
	switch {
	case o.Compare && n.Dir:
		return nil, refusal(tree.CodeNotFile, o.Path)
	case o.Compare:
		action = tree.ActionCompareAndDelete
		if cause := unlike(&n, o.PrevValue, o.PrevIndex); cause != "" {
			return nil, refusal(tree.CodeCompareFailed, cause)
		}
	case n.Dir && !o.Recursive && !o.Dir:
		return nil, refusal(tree.CodeNotFile, o.Path)
	case n.Dir && !o.Recursive && len(f.below(o.Path)) > 0:
		return nil, refusal(tree.CodeDirNotEmpty, o.Path)
	}
	return f.remove(o.Path, action, now), nil
}

// expire removes what has run out, the earliest first, of as many deadlines as are to be looked at.
func (f *forest) expire(o *command.TreeExpire) (events []*tree.Event) {
	var due []tree.Node
	for _, n := range f.nodes {
		if n.Deadline != 0 && n.Deadline <= o.Stamp {
			due = append(due, n)
		}
	}
	slices.SortFunc(due, func(a, b tree.Node) int {
		return cmp.Or(cmp.Compare(a.Deadline, b.Deadline), slices.Compare(inKeys(a.Path), inKeys(b.Path)))
	})
	for _, n := range due[:min(max(o.Limit, 0), int64(len(due)))] {
		if _, ok := f.nodes[n.Path]; ok { // it has not gone with its directory
			events = append(events, f.remove(n.Path, tree.ActionExpire, o.Stamp))
		}
	}
	return events
}

// inKeys orders paths by their names, level by level.
func inKeys(path string) []string { return strings.Split(path, "/") }

// noteAccess counts a change of users and roles, the first one with what etcd would set up for it.
func (f *forest) noteAccess() {
	if !f.access.used {
		f.access.used = true
		f.index += 4
	}
	f.index++
}

func (f *forest) changeUser(o *command.TreeUser) *tree.Error {
	old, there := f.access.users[o.Name]
	mode := o.Mode
	if mode == command.TreeAccessPut {
		mode = command.TreeAccessCreate
		if there {
			mode = command.TreeAccessUpdate
		}
	}
	next := accessUser{hash: old.hash, roles: slices.Clone(old.roles)}
	switch {
	case mode == command.TreeAccessDelete && f.access.enabled && o.Name == tree.RootUser:
		return refusal(tree.CodeAccessForbidden, "")
	case mode != command.TreeAccessCreate && !there:
		return refusal(tree.CodeAccessMissing, "")
	case mode == command.TreeAccessDelete:
		delete(f.access.users, o.Name)
		f.noteAccess()
		return nil
	case mode == command.TreeAccessCreate && there:
		return refusal(tree.CodeAccessConflict, "")
	case mode == command.TreeAccessCreate && len(o.Hash) == 0:
		return refusal(tree.CodeAccessInvalid, "")
	case mode == command.TreeAccessCreate:
		next = accessUser{hash: string(o.Hash), roles: slices.Clone(o.Roles)}
	default:
		if len(o.Hash) > 0 {
			next.hash = string(o.Hash)
		}
		for _, role := range o.Grant {
			if slices.Contains(next.roles, role) {
				return refusal(tree.CodeAccessConflict, "")
			}
			next.roles = append(next.roles, role)
		}
		for _, role := range o.Revoke {
			if !slices.Contains(next.roles, role) {
				return refusal(tree.CodeAccessConflict, "")
			}
			next.roles = slices.DeleteFunc(next.roles, func(r string) bool { return r == role })
		}
		next.roles = asSet(next.roles)
		if next.hash == old.hash && isSame(next.roles, old.roles) {
			return refusal(tree.CodeAccessInvalid, "")
		}
	}
	if o.Name == tree.RootUser && !slices.Contains(next.roles, tree.RootUser) {
		next.roles = append(next.roles, tree.RootUser)
	}
	f.access.users[o.Name] = next
	f.noteAccess()
	return nil
}

func (f *forest) changeRole(o *command.TreeRole) *tree.Error {
	old, there := f.access.roles[o.Name]
	next := [2][]string{o.Read, o.Write}
	switch {
	case o.Name == tree.RootUser:
		return refusal(tree.CodeAccessForbidden, "")
	case (o.Mode == command.TreeAccessDelete || o.Mode == command.TreeAccessUpdate) && !there:
		return refusal(tree.CodeAccessMissing, "")
	case o.Mode == command.TreeAccessDelete:
		delete(f.access.roles, o.Name)
		f.noteAccess()
		return nil
	case o.Mode == command.TreeAccessUpdate:
		same := true
		for i, change := range [2][2][]string{{o.GrantRead, o.RevokeRead}, {o.GrantWrite, o.RevokeWrite}} {
			next[i] = slices.Clone(old[i])
			for _, p := range change[0] {
				if slices.Contains(next[i], p) {
					return refusal(tree.CodeAccessConflict, "")
				}
				next[i] = append(next[i], p)
			}
			next[i] = asSet(slices.DeleteFunc(next[i], func(p string) bool { return slices.Contains(change[1], p) }))
			same = same && isSame(next[i], old[i])
		}
		if same {
			return refusal(tree.CodeAccessInvalid, "")
		}
	case there:
		return refusal(tree.CodeAccessConflict, "")
	}
	f.access.roles[o.Name] = next
	f.noteAccess()
	return nil
}

// asSet is what a change makes of a list: never nil.
func asSet(list []string) []string {
	return append([]string{}, slices.Compact(slices.Sorted(slices.Values(list)))...)
}

// isSame reports whether a change has changed nothing. A list that was given in another order, or not at all, is another one.
func isSame(next, old []string) bool { return old != nil && slices.Equal(next, old) }

func (f *forest) setAccess(enabled bool) *tree.Error {
	a := &f.access
	_, root := a.users[tree.RootUser]
	if a.enabled == enabled || enabled && !root {
		return refusal(tree.CodeAccessConflict, "")
	}
	if _, ok := a.roles[tree.GuestRole]; enabled && !ok {
		a.roles[tree.GuestRole] = [2][]string{{"/*"}, {"/*"}}
		f.noteAccess()
	}
	a.enabled = enabled
	f.noteAccess()
	return nil
}

// earliest is the first deadline of any node; 0: there is none.
func (f *forest) earliest() (first int64) {
	for _, n := range f.nodes {
		if n.Deadline != 0 && (first == 0 || n.Deadline < first) {
			first = n.Deadline
		}
	}
	return first
}

// differs says how a member's tree differs; empty: it does not. Hidden nodes a walk does not show: those are looked up.
func (f *forest) differs(v *tree.View) string {
	if got := v.Position().Index; got != f.index {
		return fmt.Sprintf("index %d, want %d", got, f.index)
	}
	var got []string
	err := v.Walk(tree.Root, true, func(n *tree.Node, depth int) error {
		got = append(got, renderNode(n))
		return nil
	}, func(int) {})
	if err != nil {
		return err.Error()
	}
	var want []string
	for _, p := range slices.SortedFunc(maps.Keys(f.nodes), func(a, b string) int { return slices.Compare(inKeys(a), inKeys(b)) }) {
		n := f.nodes[p]
		if !slices.ContainsFunc(inKeys(p), tree.IsHidden) {
			want = append(want, renderNode(&n))
			continue
		}
		found, refused, err := v.Get(p)
		if err != nil || refused != nil || renderNode(found) != renderNode(&n) {
			return fmt.Sprintf("hidden node %s: %v, %v, %v", renderNode(&n), found, refused, err)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("nodes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return ""
}

// differsAt says how what a member has at a path differs; empty: it does not.
func (f *forest) differsAt(v *tree.View, path string) string {
	n, refused, err := v.Get(path)
	want := f.obstacle(path)
	switch {
	case err != nil:
		return err.Error()
	case want != nil || refused != nil:
		if want != nil {
			want.Index = f.index
		}
		if got, want := renderRefusal(refused), renderRefusal(want); got != want {
			return fmt.Sprintf("%s gives %s, want %s", path, got, want)
		}
	case path != tree.Root:
		there := f.nodes[path]
		if got, want := renderNode(n), renderNode(&there); got != want {
			return fmt.Sprintf("%s is %s, want %s", path, got, want)
		}
	}
	return ""
}

func renderNode(n *tree.Node) string {
	return fmt.Sprintf("%q dir=%t value=%q created=%d modified=%d deadline=%d", n.Path, n.Dir, n.Value, n.Created, n.Modified, n.Deadline)
}

func renderTreeEvent(e *tree.Event) string {
	if e == nil {
		return "none"
	}
	s := fmt.Sprintf("<%v at %d refresh=%t %s", e.Action, e.Time, e.Refresh, renderNode(&e.Node))
	if e.Prev != nil {
		s += " prev " + renderNode(e.Prev)
	}
	return s + ">"
}

// renderRefusal leaves out what users and roles are told: it is the same for one code.
func renderRefusal(e *tree.Error) string {
	switch {
	case e == nil:
		return "none"
	case e.Code < tree.CodeKeyNotFound:
		return fmt.Sprintf("%d at %d", e.Code, e.Index)
	}
	return fmt.Sprintf("%d %q at %d", e.Code, e.Cause, e.Index)
}

func renderTreeEvents(events []*tree.Event) string {
	var s strings.Builder
	for _, e := range events {
		s.WriteString(renderTreeEvent(e))
	}
	return s.String()
}
