package v2

import (
	"context"
	"net/http"
	"time"
	"unsafe"

	"keelson/command"
	"keelson/internal/sched"
	"keelson/state"
	"keelson/state/tree"
)

// keys answers requests under /v2/keys that come from net/http.
func (h *Handler) keys(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodHead, http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete) {
		return
	}
	w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
	now := h.o.Clock.Now()
	out := &httpOutlet{w: w, r: r, h: h}
	leave, err := h.forms.enter(w, r)
	if err != nil {
		writeError(out, failureOf(err))
		return
	}
	q, refusal := parseHTTP(r, now)
	leave()
	if refusal != nil {
		writeError(out, refusal)
		return
	}
	h.serve(r.Context(), q, (*httpCredentials)(r), now, out)
}

// serve answers a request that is taken apart.
func (h *Handler) serve(ctx context.Context, q *request, c credentials, now time.Time, out outlet) {
	refusal := h.admitState()
	if refusal == nil && h.o.Access != nil {
		refusal = h.o.Access.keys(c, q)
	}
	switch {
	case refusal != nil:
		writeError(out, refusal)
	case q.method == http.MethodPut || q.method == http.MethodPost || q.method == http.MethodDelete:
		h.write(ctx, q, out)
	case q.wait && !q.quorum:
		h.wait(q, out)
	default:
		h.get(ctx, q, now, out)
	}
}

// admitState refuses what a member with a wrong state would answer wrongly.
func (h *Handler) admitState() *tree.Error {
	if h.o.Corrupt != nil && h.o.Corrupt() {
		return failureOf(state.ErrCorrupt)
	}
	return nil
}

// write carries out a change.
func (h *Handler) write(ctx context.Context, q *request, out outlet) {
	op := q.command()
	if put, ok := op.(*command.TreePut); ok && h.o.Quota != nil && !h.o.Quota.Admit(ctx, int64(len(put.Path)+len(put.Value))) {
		writeError(out, failureOf(state.ErrNoSpace))
		return
	}
	result, err := h.o.Member.Propose(ctx, op)
	if err == nil {
		err = result.Refusal
	}
	switch {
	case err != nil:
		writeError(out, failureOf(err))
	case result.TreeRefusal != nil:
		writeError(out, result.TreeRefusal)
	default:
		h.writeEvent(out, result.Tree, q.noValueOnSuccess && q.method != http.MethodDelete)
	}
}

// command is the change that a request asks for. It is valid as long as the request is.
//
// Source: v2 API specification, 4.1.
func (q *request) command() command.Op {
	compares := q.prevIndex > 0 || q.prevValue != ""
	if q.method == http.MethodDelete {
		o := &command.TreeDelete{Path: q.path, Dir: q.dir, Recursive: q.recursive, Compare: compares}
		if compares {
			o.PrevValue, o.PrevIndex = bytesOf(q.prevValue), q.prevIndex
		}
		return o
	}
	o := &q.put
	*o = command.TreePut{Path: q.path, Dir: q.dir, Value: bytesOf(q.value), Deadline: q.deadline, Refresh: q.refresh}
	switch {
	case q.method == http.MethodPost:
		o.Mode = command.TreeCreateInOrder
	case q.prevExist != nil && !*q.prevExist:
		o.Mode = command.TreeCreate
	case compares:
		o.Mode, o.PrevValue, o.PrevIndex = command.TreeCompareAndSwap, bytesOf(q.prevValue), q.prevIndex
	case q.prevExist != nil:
		o.Mode = command.TreeUpdate
	}
	return o
}

// bytesOf is a text's bytes, not a copy: nobody may change what is in a command.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// writeEvent answers a change.
func (h *Handler) writeEvent(out outlet, e *tree.Event, bare bool) {
	body := out.buffer()
	if bare {
		body = append(body, `{"action":"`+e.Action.String()+"\"}\n"...)
	} else {
		body = appendEvent(body, e)
	}
	a := h.head(e.Index())
	if e.Action == tree.ActionCreate || e.Action == tree.ActionSet && e.Prev == nil {
		a.status = http.StatusCreated
	}
	out.whole(a, body, len(body))
}

// head is that of a successful answer.
func (h *Handler) head(index uint64) answerHead {
	status := h.o.Member.Status()
	return answerHead{status: http.StatusOK, index: index, done: true, raftIndex: status.Applied, raftTerm: status.Term}
}

// get answers a read. A listing is written while it is walked through, so it takes little memory however large it is.
func (h *Handler) get(ctx context.Context, q *request, now time.Time, to outlet) {
	view, err := h.view(ctx, q.quorum && q.method == http.MethodGet)
	if err != nil {
		writeError(to, failureOf(err))
		return
	}
	defer view.Close()
	if n, index, err := view.TreeFile(q.path); err == nil && n != nil {
		h.hub.noteGet(true)
		body := append(to.buffer(), `{"action":"get","node":`...)
		body = append(appendNode(body, n, now.UnixNano(), true), "}\n"...)
		to.whole(h.head(index), body, len(body))
		return
	}
	t, err := view.Tree()
	if err != nil {
		writeError(to, failureOf(err))
		return
	}
	defer t.Close()
	n, refusal, err := t.Get(q.path)
	if err != nil {
		refusal = failureOf(err)
	}
	h.hub.noteGet(refusal == nil)
	if refusal != nil {
		writeError(to, refusal)
		return
	}
	out := &reply{to: to, head: h.head(t.Position().Index), bodiless: q.method == http.MethodHead, buf: to.buffer()}
	out.buf = append(out.buf, `{"action":"get","node":`...)
	defer out.batch.End()
	if err := writeListing(out, t, n, q.recursive, now.UnixNano()); err != nil {
		panic(http.ErrAbortHandler) // the client is gone or too slow, or the disk has failed: half an answer must not look whole
	}
	out.buf = append(out.buf, "}\n"...)
	out.end()
}

func (h *Handler) view(ctx context.Context, linearizable bool) (*state.View, error) {
	if !linearizable {
		return h.o.Member.ReadLocal(), nil
	}
	return h.o.Member.Read(ctx)
}

// writeListing writes a node and, if it is a directory, what is visible in it.
func writeListing(out *reply, t *tree.View, n *tree.Node, recursive bool, now int64) error {
	out.buf = openNode(out.buf, n, now, true)
	if n.Dir {
		l := listing{out: out, now: now, inside: []level{{node: *n}}}
		if err := t.Walk(n.Path, recursive, l.enter, l.leave); err != nil {
			return err
		}
		l.finish()
	}
	out.buf = closeNode(out.buf, n)
	return nil
}

// listing writes nested nodes.
type listing struct {
	out *reply
	now int64
	// inside are the directories that are open, the one that is listed first.
	inside []level
}

type level struct {
	node   tree.Node
	listed bool // something was written in it
}

func (l *listing) enter(n *tree.Node, depth int) error {
	in := &l.inside[depth-1]
	if in.listed {
		l.out.buf = append(l.out.buf, ',')
	} else {
		in.listed = true
		l.out.buf = append(l.out.buf, `"nodes":[`...)
	}
	l.out.buf = openNode(l.out.buf, n, l.now, true)
	if n.Dir {
		l.inside = append(l.inside[:depth], level{node: *n})
		return nil
	}
	l.out.buf = closeNode(l.out.buf, n)
	return l.out.push()
}

func (l *listing) leave(depth int) {
	at := &l.inside[depth]
	if at.listed {
		l.out.buf = append(l.out.buf, "],"...)
	}
	l.out.buf = closeNode(l.out.buf, &at.node)
	l.inside = l.inside[:depth]
}

func (l *listing) finish() {
	if l.inside[0].listed {
		l.out.buf = append(l.out.buf, "],"...)
	}
}

// pieceBytes is how much of an answer is gathered before it goes out in pieces.
const pieceBytes = 64 << 10

// reply gathers an answer. One that is small goes out with its length, a large one in pieces.
type reply struct {
	to       outlet
	head     answerHead
	bodiless bool // only the length is wanted
	buf      []byte

	inPieces bool
	counted  int         // of what was not wanted
	batch    sched.Batch // of the work between two pieces
}

// push sends what has been gathered if it is enough.
func (p *reply) push() error {
	if len(p.buf) < pieceBytes {
		return nil
	}
	if p.bodiless {
		p.counted += len(p.buf)
		p.buf = p.buf[:0]
		return nil
	}
	if !p.inPieces {
		p.inPieces = true
		p.to.begin(p.head)
	}
	p.batch.End()
	err := p.to.piece(p.buf)
	p.buf = p.buf[:0]
	p.batch = sched.Begin()
	return err
}

// end sends the rest.
func (p *reply) end() {
	if !p.inPieces {
		p.to.whole(p.head, p.buf, p.counted+len(p.buf))
		return
	}
	p.batch.End()
	if p.to.piece(p.buf) != nil {
		panic(http.ErrAbortHandler)
	}
	p.to.end()
}
