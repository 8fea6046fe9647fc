package differential

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
)

// Run is one comparison under way: the two sides and the model, which is what the reference's answers say. It belongs
// to one goroutine.
type Run struct {
	sides [2]*Side // reference, candidate

	again func(Op) Answer // asks the reference alone, for a rule that has to know more

	revision  int64            // current, from the headers
	compacted int64            // the floor; 0: never compacted
	floors    []int64          // every floor there was, in order
	leases    map[int64]*lease // live ones by id, or by slot
	history   []*mvccpb.Event  // everything that happened, as the reference told it up to the last sync

	pairs map[int]*pair // open watch streams
	wake  chan struct{} // capacity 1; signalled by every receiver
	done  int           // operations executed

	patience time.Duration // for watch replies and events that must come

	// Tally counts operations by kind and the reference's code, and restarts. It shows whether the generator still
	// reaches what it is meant to reach.
	Tally map[string]int

	// Spent is how long the operations of each kind took together.
	Spent map[Kind]time.Duration
}

// lease is what the model knows of a live lease.
type lease struct {
	ttlSeconds int64
	refreshed  time.Time // when its time last began to run, up to the length of a call
}

// Disagreement is an operation on which the sides differ.
type Disagreement struct {
	Index      int // of the operation, from 0
	Op         Op
	Difference string
	Answers    [2]string // reference, candidate; empty for watches
}

// String is the report, for people.
func (d *Disagreement) String() string {
	s := fmt.Sprintf("op %d: %v\n  %s", d.Index, d.Op, d.Difference)
	if d.Answers[0] != "" {
		s += fmt.Sprintf("\n  reference: %s\n  candidate: %s", d.Answers[0], d.Answers[1])
	}
	return s
}

// NewRun takes two servers in the same state and records their history from now on.
//
// Errors: no connection.
func NewRun(reference, candidate *Side) (*Run, *Disagreement, error) {
	r := &Run{
		sides:    [2]*Side{reference, candidate},
		again:    reference.do,
		revision: 1,
		leases:   map[int64]*lease{},
		pairs:    map[int]*pair{},
		wake:     make(chan struct{}, 1),
		patience: waitTimeout,
		Tally:    map[string]int{},
		Spent:    map[Kind]time.Duration{},
	}
	fault, err := r.watchHistory()
	if fault != "" {
		return r, &Disagreement{Op: Op{Kind: KindWatch, Stream: historyStream}, Difference: fault}, err
	}
	return r, nil, err
}

// Close ends the watch streams and returns what was wrong with what they said since they were last looked at, or "".
func (r *Run) Close() (fault string) {
	for _, index := range r.indexes() {
		fault = cmp.Or(fault, r.closePair(index))
	}
	return fault
}

// Step executes one operation on both sides and compares.
//
// Errors: the run cannot go on for a reason that says nothing about the candidate's answers.
func (r *Run) Step(op Op) (*Disagreement, error) {
	index := r.done
	r.done++
	begin := time.Now()
	defer func() { r.Spent[op.Kind] += time.Since(begin) }()
	var difference string
	var answers [2]string
	var err error
	switch op.Kind {
	case KindWatch:
		difference, err = r.watch(op)
	case KindWatchHalfClose:
		err = r.halfClose(op)
	case KindWatchClose:
		if !op.Kill {
			difference, err = r.sync()
		}
		if op.Stream != historyStream {
			difference = cmp.Or(difference, r.closePair(op.Stream))
		}
	case KindWatchEnd:
		if difference, err = r.end(); difference == "" && err == nil {
			difference, err = r.resume()
		}
	case KindSync:
		difference, err = r.sync()
	case KindRestart:
		difference, err = r.restart(op)
	case KindExpiry:
		difference, err = r.expiry(op)
	case KindShortGrant:
		difference, err = r.shortGrant(op)
	default:
		difference, answers, err = r.ask(op)
	}
	if difference == "" {
		return nil, err
	}
	for _, side := range r.sides {
		if alive, last := side.server.Alive(); !alive {
			difference += fmt.Sprintf("\n  %s is gone: %s", side.name, last)
		}
	}
	return &Disagreement{Index: index, Op: op, Difference: difference, Answers: answers}, nil
}

// ask executes an operation that is answered at once.
func (r *Run) ask(op Op) (difference string, printed [2]string, err error) {
	if op.Kind == KindCompact {
		if fault, err := r.settle(); fault != "" || err != nil {
			return fault, printed, err
		}
	}
	answers := r.both(op)
	r.Tally[fmt.Sprintf("%s %v", op.Kind, answers[0].Code)]++
	if op.Kind == KindLeases {
		for i := range answers {
			answers[i].Fault = r.leaseOrder(answers[i])
		}
	}
	r.learn(op, answers[0])
	if difference = r.compare(op, answers[0], answers[1]); difference != "" {
		for i := range answers {
			printed[i] = answers[i].String()
		}
		return difference, printed, nil
	}
	if code := answers[0].Code; code == codes.Unavailable || code == codes.DeadlineExceeded {
		err := fmt.Errorf("%v: both sides answered %v", op, answers[0])
		for _, side := range r.sides {
			if alive, last := side.server.Alive(); !alive {
				err = fmt.Errorf("%w\n%s is gone: %s", err, side.name, last)
			}
		}
		return "", printed, err
	}
	return "", printed, nil
}

// both executes the operation on both sides at once.
func (r *Run) both(op Op) (answers [2]Answer) {
	var other sync.WaitGroup
	other.Go(func() { answers[1] = r.sides[1].do(op) })
	answers[0] = r.sides[0].do(op)
	other.Wait()
	return answers
}

// learn brings the model up to the reference's answer.
func (r *Run) learn(op Op, a Answer) {
	for _, m := range a.Messages {
		if answer, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
			r.revision = max(r.revision, answer.GetHeader().GetRevision())
		}
	}
	if a.Code != codes.OK {
		return
	}
	switch request := op.Request.(type) {
	case *pb.CompactionRequest:
		r.compacted = request.Revision
		r.floors = append(r.floors, request.Revision)
	case *pb.LeaseRevokeRequest:
		delete(r.leases, request.ID)
	case *pb.LeaseGrantRequest:
		granted := a.Messages[0].(*pb.LeaseGrantResponse)
		r.leases[granted.ID] = &lease{ttlSeconds: granted.TTL, refreshed: time.Now()}
	}
	for i, id := range op.Leases {
		if l := r.leases[id]; l != nil && i < len(a.Messages) && a.Messages[i].(*pb.LeaseKeepAliveResponse).TTL > 0 {
			l.refreshed = time.Now()
		}
	}
}

// leaseOrder checks that leases are listed nearest expiry first, as far apart as calls take, and then sorts them by id.
func (r *Run) leaseOrder(a Answer) (fault string) {
	if a.Code != codes.OK {
		return ""
	}
	list := a.Messages[0].(*pb.LeaseLeasesResponse).Leases
	for i := 1; i < len(list); i++ {
		x, y := r.leases[list[i-1].ID], r.leases[list[i].ID]
		if x == nil || y == nil {
			continue // the comparison of the lists finds it
		}
		const slack = 1000 // seconds; remaining times of the generator's leases differ by more or not at all
		ahead := float64(x.ttlSeconds-y.ttlSeconds) + x.refreshed.Sub(y.refreshed).Seconds()
		if ahead > slack {
			fault = fmt.Sprintf("lease %d is listed before %d but expires %.0f s later", list[i-1].ID, list[i].ID, ahead)
		}
	}
	slices.SortFunc(list, func(x, y *pb.LeaseStatus) int {
		if x.ID < y.ID {
			return -1
		}
		return 1
	})
	return fault
}

// halfClose ends the requests of a stream. Its events must go on.
func (r *Run) halfClose(op Op) error {
	p := r.pairs[op.Stream]
	if p == nil || p.halfClosed {
		return nil
	}
	p.halfClosed = true
	for i, st := range p.sides {
		if err := st.call.CloseSend(); err != nil {
			return fmt.Errorf("half-close on %s: %w", r.sides[i].name, err)
		}
	}
	return nil
}

// restart ends all streams, restarts, and records the history on from where it was.
func (r *Run) restart(op Op) (string, error) {
	if fault, err := r.end(); fault != "" || err != nil {
		return fault, err
	}
	r.Tally[fmt.Sprintf("restart kill=%v", op.Kill)]++
	if op.Both {
		if err := r.sides[0].restart(op.Kill); err != nil {
			return "", err
		}
	}
	if err := r.sides[1].restart(op.Kill); err != nil {
		return err.Error(), nil
	}
	for _, l := range r.leases {
		l.refreshed = time.Now()
	}
	return r.resume()
}

// end waits until all streams have told everything, and ends them.
func (r *Run) end() (string, error) {
	fault, err := r.sync()
	return cmp.Or(fault, r.Close()), err
}

// resume ends all streams, whatever they said last, and records the history on from where it was.
func (r *Run) resume() (string, error) {
	r.Close()
	return r.watchHistory()
}

// expiryTTL is the TTL of a lease that is meant to expire, in seconds: above the minimum of both servers, and long
// enough for a handful of puts on a machine that stalls.
const expiryTTL = 3

// expiry grants a short lease, puts keys on it, and waits until both sides have deleted them. Nothing else is written
// meanwhile, so the deletes have the same revision on both.
func (r *Run) expiry(op Op) (string, error) {
	put := op.Request.(*pb.PutRequest)
	steps := []Op{{Kind: KindLeaseGrant, Request: &pb.LeaseGrantRequest{ID: put.Lease, TTL: expiryTTL}}}
	for _, key := range op.Keys {
		steps = append(steps, Op{Kind: KindPut, Request: &pb.PutRequest{Key: key, Value: put.Value, Lease: put.Lease}})
	}
	for i, step := range steps {
		difference, answers, err := r.ask(step)
		if difference != "" || err != nil {
			return fmt.Sprintf("%v: %s\n  reference: %s\n  candidate: %s", step, difference, answers[0], answers[1]), err
		}
		if i == 0 && r.leases[put.Lease] == nil {
			return "", nil // refused by both
		}
	}
	if fault, err := r.syncHistory(); fault != "" || err != nil {
		return fault, err
	}
	delete(r.leases, put.Lease)
	r.revision++
	fault, err := r.syncHistory()
	if fault != "" {
		fault = fmt.Sprintf("expiry of lease %d: %s", put.Lease, fault)
	}
	return fault, err
}

// shortGrant grants a lease below the minimum TTL and revokes it at once, so that only the granted TTL is seen.
func (r *Run) shortGrant(op Op) (string, error) {
	begin := time.Now()
	id := op.Request.(*pb.LeaseGrantRequest).ID
	difference, answers, err := r.ask(Op{Kind: KindLeaseGrant, Request: op.Request})
	if difference != "" || err != nil {
		return fmt.Sprintf("%s\n  reference: %s\n  candidate: %s", difference, answers[0], answers[1]), err
	}
	revoke := Op{Kind: KindLeaseRevoke, Request: &pb.LeaseRevokeRequest{ID: id}}
	both := r.both(revoke)
	r.learn(revoke, both[0])
	delete(r.leases, id)
	// On a machine that stalls the lease may have expired by itself on one side; that has nothing to do with the answer.
	if time.Since(begin) > time.Second {
		return "", nil
	}
	return r.compare(revoke, both[0], both[1]), nil
}
