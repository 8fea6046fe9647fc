package v2

import (
	"net/http"
	"strconv"
	"time"
)

// outlet is the way an answer to a request for keys goes out. Either whole is called, or begin, piece as often as it takes,
// and end, or poll.
type outlet interface {
	// buffer is empty, and may be used for the body.
	buffer() []byte
	// whole gives the whole answer. Of the body, length is told; a HEAD gets none of it.
	whole(head answerHead, body []byte, length int)
	begin(head answerHead)
	// piece sends a piece. An error says that the client has gone, or takes nothing.
	piece(body []byte) error
	end()
	// poll begins an answer whose events come later, and sees to it that they are sent.
	poll(head answerHead, q *request, w *waiter)
}

// answerHead is what stands above the body.
type answerHead struct {
	status              int
	index               uint64
	done                bool // what was asked for: then the log's position is told
	raftIndex, raftTerm uint64
}

// httpOutlet answers through net/http.
type httpOutlet struct {
	w http.ResponseWriter
	r *http.Request
	h *Handler

	pieces *http.ResponseController // nil: none has been sent
}

// pieceTimeout is how long a client may take for a piece.
const pieceTimeout = 30 * time.Second

func (o *httpOutlet) buffer() []byte { return make([]byte, 0, 512) }

func (o *httpOutlet) whole(head answerHead, body []byte, length int) {
	o.w.Header()["Content-Length"] = []string{strconv.Itoa(length)}
	o.begin(head)
	if o.r.Method != http.MethodHead {
		o.w.Write(body)
	}
}

func (o *httpOutlet) begin(head answerHead) {
	header := o.w.Header()
	header["Content-Type"] = contentJSON
	header["X-Etcd-Index"] = []string{strconv.FormatUint(head.index, 10)}
	if head.done {
		header["X-Raft-Index"] = []string{strconv.FormatUint(head.raftIndex, 10)}
		header["X-Raft-Term"] = []string{strconv.FormatUint(head.raftTerm, 10)}
	}
	o.w.WriteHeader(head.status)
}

func (o *httpOutlet) piece(body []byte) error {
	if o.pieces == nil {
		o.pieces = http.NewResponseController(o.w)
	}
	// Not every connection has a clock; one that has none belongs to a test.
	_ = o.pieces.SetWriteDeadline(time.Now().Add(pieceTimeout))
	_, err := o.w.Write(body)
	return err
}

func (o *httpOutlet) end() { _ = o.pieces.SetWriteDeadline(time.Time{}) }
