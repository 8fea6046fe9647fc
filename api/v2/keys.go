package v2

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"keelson/command"
	"keelson/state"
	"keelson/state/tree"
)

// keys answers requests under /v2/keys.
func (h *Handler) keys(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodHead, http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete) {
		return
	}
	w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
	now := h.o.Clock.Now()
	q, refusal := parse(r, now)
	if refusal == nil {
		refusal = h.admitState()
	}
	if refusal == nil && h.o.Access != nil {
		refusal = h.o.Access.keys(r, q)
	}
	if refusal != nil {
		writeError(w, refusal)
		return
	}
	switch {
	case q.method == http.MethodPut || q.method == http.MethodPost || q.method == http.MethodDelete:
		h.write(w, r, q)
	case q.wait && !q.quorum:
		h.wait(w, r, q)
	default:
		h.get(w, r, q, now)
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
func (h *Handler) write(w http.ResponseWriter, r *http.Request, q *request) {
	op := q.command()
	if put, ok := op.(*command.TreePut); ok && h.o.Quota != nil && !h.o.Quota.Admit(r.Context(), int64(len(put.Path)+len(put.Value))) {
		writeError(w, failureOf(state.ErrNoSpace))
		return
	}
	ctx := r.Context()
	result, err := h.o.Member.Propose(ctx, op)
	if err == nil {
		err = result.Refusal
	}
	switch {
	case err != nil:
		writeError(w, failureOf(err))
	case result.TreeRefusal != nil:
		writeError(w, result.TreeRefusal)
	default:
		h.writeEvent(w, result.Tree, q.noValueOnSuccess && q.method != http.MethodDelete)
	}
}

// command is the change that a request asks for.
//
// Source: v2 API specification, 4.1.
func (q *request) command() command.Op {
	compares := q.prevIndex > 0 || q.prevValue != ""
	if q.method == http.MethodDelete {
		o := &command.TreeDelete{Path: q.path, Dir: q.dir, Recursive: q.recursive, Compare: compares}
		if compares {
			o.PrevValue, o.PrevIndex = []byte(q.prevValue), q.prevIndex
		}
		return o
	}
	o := &command.TreePut{Path: q.path, Dir: q.dir, Value: []byte(q.value), Deadline: q.deadline, Refresh: q.refresh}
	switch {
	case q.method == http.MethodPost:
		o.Mode = command.TreeCreateInOrder
	case q.prevExist != nil && !*q.prevExist:
		o.Mode = command.TreeCreate
	case compares:
		o.Mode, o.PrevValue, o.PrevIndex = command.TreeCompareAndSwap, []byte(q.prevValue), q.prevIndex
	case q.prevExist != nil:
		o.Mode = command.TreeUpdate
	}
	return o
}

// writeEvent answers a change.
func (h *Handler) writeEvent(w http.ResponseWriter, e *tree.Event, bare bool) {
	var body []byte
	if bare {
		body = append(body, `{"action":"`+e.Action.String()+"\"}\n"...)
	} else {
		body = appendEvent(make([]byte, 0, 256), e)
	}
	h.setHeaders(w.Header(), e.Index())
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	if e.Action == tree.ActionCreate || e.Action == tree.ActionSet && e.Prev == nil {
		w.WriteHeader(http.StatusCreated)
	}
	w.Write(body)
}

// setHeaders sets what every successful answer has.
func (h *Handler) setHeaders(header http.Header, index uint64) {
	status := h.o.Member.Status()
	header["Content-Type"] = contentJSON
	header["X-Etcd-Index"] = []string{strconv.FormatUint(index, 10)}
	header["X-Raft-Index"] = []string{strconv.FormatUint(status.Applied, 10)}
	header["X-Raft-Term"] = []string{strconv.FormatUint(status.Term, 10)}
}

// get answers a read. A listing is written while it is walked through, so it takes little memory however large it is.
func (h *Handler) get(w http.ResponseWriter, r *http.Request, q *request, now time.Time) {
	view, err := h.view(r.Context(), q.quorum && q.method == http.MethodGet)
	if err != nil {
		writeError(w, failureOf(err))
		return
	}
	defer view.Close()
	t, err := view.Tree()
	if err != nil {
		writeError(w, failureOf(err))
		return
	}
	defer t.Close()
	n, refusal, err := t.Get(q.path)
	if err != nil {
		refusal = failureOf(err)
	}
	h.hub.noteGet(refusal == nil)
	if refusal != nil {
		writeError(w, refusal)
		return
	}
	h.setHeaders(w.Header(), t.Position().Index)
	out := newReply(w, r.Method == http.MethodHead)
	out.buf = append(out.buf, `{"action":"get","node":`...)
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

// Bounds of answers that are written piece by piece.
const (
	pieceBytes   = 64 << 10
	pieceTimeout = 30 * time.Second // for a client to take one
)

// reply gathers an answer. One that is small goes out with its length, a large one in pieces.
type reply struct {
	w    http.ResponseWriter
	head bool // only the length is wanted
	buf  []byte

	pieces  *http.ResponseController // nil: none has been sent
	counted int                      // of a HEAD
}

func newReply(w http.ResponseWriter, head bool) *reply {
	return &reply{w: w, head: head, buf: make([]byte, 0, 512)}
}

// push sends what has been gathered if it is enough.
func (p *reply) push() error {
	if len(p.buf) < pieceBytes {
		return nil
	}
	if p.head {
		p.counted += len(p.buf)
		p.buf = p.buf[:0]
		return nil
	}
	if p.pieces == nil {
		p.pieces = http.NewResponseController(p.w)
	}
	// Not every connection has a clock; one that has none belongs to a test.
	_ = p.pieces.SetWriteDeadline(time.Now().Add(pieceTimeout))
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

// end sends the rest.
func (p *reply) end() {
	if p.pieces == nil {
		p.w.Header()["Content-Length"] = []string{strconv.Itoa(p.counted + len(p.buf))}
	}
	if !p.head {
		p.w.Write(p.buf)
	}
	if p.pieces != nil {
		_ = p.pieces.SetWriteDeadline(time.Time{})
	}
}
