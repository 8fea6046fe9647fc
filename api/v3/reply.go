package v3

import (
	"keelson/state"
	"keelson/state/mvcc"
)

// Replies of KV's writes and transactions, encoded from the state's own results.

// headerReply encodes a reply that holds nothing but a header.
func headerReply(h *header) *encoded {
	return encodedBytes(h.appendField(make([]byte, 0, h.sizeField())))
}

// putReply encodes PutResponse; prev may be nil.
func putReply(h *header, prev *mvcc.KeyValue) *encoded {
	n := h.sizeField()
	if prev != nil {
		n += sizeMessage(sizeKV(prev))
	}
	b := h.appendField(make([]byte, 0, n))
	if prev != nil {
		b = appendKVField(b, 2, prev)
	}
	return encodedBytes(b)
}

// deleteReply encodes DeleteRangeResponse.
func deleteReply(h *header, deleted int64, prevs []mvcc.KeyValue) *encoded {
	n := h.sizeField() + sizeNumber(uint64(deleted)) + sizeKVs(prevs)
	b := h.appendField(make([]byte, 0, n))
	b = appendNumber(b, 2, uint64(deleted))
	return encodedBytes(appendKVs(b, 3, prevs))
}

// txnReply encodes TxnResponse.
func txnReply(h *header, r *state.TxnResult) *encoded {
	var w txnWriter
	n := w.measure(h, r)
	return encodedBytes(w.append(make([]byte, 0, n), h, r))
}

// txnWriter writes the replies of nested transactions in two walks: the first measures every message in it, the second
// writes them and takes the sizes in the same order.
type txnWriter struct {
	sizes []int
	next  int
}

// Fields of ResponseOp.
const (
	responseRange  = 1
	responsePut    = 2
	responseDelete = 3
	responseTxn    = 4
)

// measure is the size of TxnResponse.
func (w *txnWriter) measure(h *header, r *state.TxnResult) int {
	n := h.sizeField() + sizeBool(r.Succeeded)
	for i := range r.Responses {
		at := len(w.sizes)
		w.sizes = append(w.sizes, 0)
		size := w.measureOp(&r.Responses[i])
		w.sizes[at] = size
		n += sizeMessage(sizeMessage(size))
	}
	return n
}

// measureOp is the size of what a ResponseOp holds.
func (w *txnWriter) measureOp(r *state.OpResult) int {
	h := header{revision: r.Revision}
	switch r.Kind {
	case state.OpRange:
		return h.sizeField() + sizeKVs(r.KVs) + sizeBool(r.More) + sizeNumber(uint64(r.Count))
	case state.OpPut:
		if r.Prev == nil {
			return h.sizeField()
		}
		return h.sizeField() + sizeMessage(sizeKV(r.Prev))
	case state.OpDeleteRange:
		return h.sizeField() + sizeNumber(uint64(r.Count)) + sizeKVs(r.KVs)
	case state.OpTxn:
		return w.measure(&header{}, r.Txn)
	}
	panic("v3: result of an unknown operation")
}

// append writes TxnResponse.
func (w *txnWriter) append(b []byte, h *header, r *state.TxnResult) []byte {
	b = h.appendField(b)
	b = appendBool(b, 2, r.Succeeded)
	for i := range r.Responses {
		size := w.sizes[w.next]
		w.next++
		b = appendLength(b, 3, sizeMessage(size))
		b = w.appendOp(b, &r.Responses[i], size)
	}
	return b
}

func (w *txnWriter) appendOp(b []byte, r *state.OpResult, size int) []byte {
	h := header{revision: r.Revision}
	switch r.Kind {
	case state.OpRange:
		b = h.appendField(appendLength(b, responseRange, size))
		b = appendKVs(b, 2, r.KVs)
		b = appendBool(b, 3, r.More)
		return appendNumber(b, 4, uint64(r.Count))
	case state.OpPut:
		b = h.appendField(appendLength(b, responsePut, size))
		if r.Prev == nil {
			return b
		}
		return appendKVField(b, 2, r.Prev)
	case state.OpDeleteRange:
		b = h.appendField(appendLength(b, responseDelete, size))
		b = appendNumber(b, 2, uint64(r.Count))
		return appendKVs(b, 3, r.KVs)
	}
	return w.append(appendLength(b, responseTxn, size), &header{}, r.Txn)
}
