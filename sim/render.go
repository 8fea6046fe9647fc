package sim

import (
	"fmt"
	"strings"

	"keelson/state"
	"keelson/state/mvcc"
)

// What the machine says and what the model says are compared as text, which does not tell nil from empty and can be
// read in a failure.

func renderKV(kv *mvcc.KeyValue) string {
	if kv == nil {
		return "none"
	}
	return fmt.Sprintf("%q=%q create=%d mod=%d version=%d lease=%d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

func renderKVs(kvs []mvcc.KeyValue) string {
	var s strings.Builder
	for i := range kvs {
		s.WriteString("{" + renderKV(&kvs[i]) + "}")
	}
	return s.String()
}

func renderResults(results []state.Result) string {
	var s strings.Builder
	for i := range results {
		r := &results[i]
		fmt.Fprintf(&s, "[refusal=%v revision=%d prev=%s deleted=%d prevs=%s lease=%d ttl=%d index=%d txn=%s tree=%s %s]",
			r.Refusal, r.Revision, renderKV(r.Prev), r.Deleted, renderKVs(r.Prevs), r.Lease, r.TTLSeconds, r.Index, renderTxn(r.Txn),
			renderTreeEvent(r.Tree), renderRefusal(r.TreeRefusal))
	}
	return s.String()
}

func renderTxn(t *state.TxnResult) string {
	if t == nil {
		return "none"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "(%t at %d:", t.Succeeded, t.Revision)
	for i := range t.Responses {
		o := &t.Responses[i]
		fmt.Fprintf(&s, " %d at %d count=%d more=%t kvs=%s prev=%s %s",
			o.Kind, o.Revision, o.Count, o.More, renderKVs(o.KVs), renderKV(o.Prev), renderTxn(o.Txn))
	}
	return s.String() + ")"
}

func renderEvents(events []mvcc.Event) string {
	var s strings.Builder
	for i := range events {
		s.WriteString(renderEvent(&events[i]))
	}
	return s.String()
}

func renderEvent(e *mvcc.Event) string {
	return fmt.Sprintf("<%d.%d kind=%d %s prev %s>", e.KV.ModRevision, e.Sub, e.Kind, renderKV(&e.KV), renderKV(e.Prev))
}
