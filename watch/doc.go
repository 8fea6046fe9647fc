// Package watch brings the events of the state machine to any number of watchers.
//
// It owns the hub, its ring of recent events, the index of watched ranges, the streams and their watchers. It leaves to
// others: what an event is (state/mvcc), where the history lies (History), who may watch what and how a stream travels
// (the API, through Request.Authorize and Sender).
//
// In flow the revisions that the apply goroutine publishes (Hub.Publish) and the requests of clients (Stream.Create,
// Cancel, Progress); out flow responses, in one order per stream, through Sender.Send.
//
//	Publish ──► inbox ──► dispatch ──► ring of chunks (shared, bounded in bytes)
//	                        │  index: key ──► groups (watchers of one range)
//	                        ▼
//	            group's log of matched batches ◄── position of each watcher
//	                        │  wakes parked watchers
//	                        ▼
//	            stream: control replies, ready watchers ──► drain goroutine ──► Sender
//	                        ▲
//	History ──► catch-up ───┘  (watchers whose position is older than what the ring holds)
//
// A watcher holds no events, only a position, so a slow one costs no memory: when the ring has dropped what the
// position points at, the watcher catches up from History and joins the ring again. Its states:
//
//	          start <= current revision
//	Create ──────────────────────────────► behind ◄──────────────┐
//	  │                                     │   │ next < floor    │ position fell off the ring
//	  │ otherwise                  caught up│   ▼                 │
//	  │                                     │  compacted ──► (only Cancel or Close ends it)
//	  └──────────────────────► live ◄───────┘                     │
//	                      parked ⇄ ready ─────────────────────────┘
//
// Invariants:
//
//   - Every event that matches a watcher and has revision >= its start is sent exactly once, in order of (revision,
//     sub), unless the watcher is cancelled first; the events of a revision are never split over responses, except as
//     fragments of one. A watcher whose position fell below the compaction floor while it was behind is cancelled; it
//     never skips.
//   - A progress response with revision R leaves after all events <= R of the watchers it speaks for.
//   - The created response of a watcher leaves before anything else of it, the response to its cancel after everything.
//   - Control requests of a stream are answered in the order they were made.
//   - Publish waits for no watcher and no client: it appends to an inbox, under a lock that is held for nothing longer. Only
//     when the inbox is full does it dispatch itself, which is work, not waiting.
//
// Publish and Reset belong to the one goroutine that applies. Create, Cancel and Progress of one stream belong to one
// goroutine at a time (the one that receives from its client); Close and everything of Hub may be called from anywhere.
// Goroutines exist only while they have something to do: one for dispatching, one per stream that has something to
// send, a bounded number that read history, and one for the timer while some watcher asked for progress notifications.
//
// Locks are taken in this order: hub.mu, group.mu, stream.mu; inbox.mu, catchUps.mu, ticks.mu and chunk.mu are leaves.
package watch
