package differential

import (
	"fmt"
	"time"
)

// Recording is a run that can be run again: what was executed and how it ended.
type Recording struct {
	Ops          []Op
	Disagreement *Disagreement // nil: the sides agreed
	Tally        map[string]int
	Spent        map[Kind]time.Duration
	Events       int // watch events in the history
}

// Record generates and executes operations until the given number or a disagreement. Restarts keep the servers; the
// caller owns them and stops them.
//
// Errors: the run could not be completed, for reasons outside the answers.
func Record(options Options, reference, candidate *Side) (*Recording, error) {
	recording := &Recording{}
	run, disagreement, err := NewRun(reference, candidate)
	defer run.Close()
	if disagreement != nil || err != nil {
		recording.Disagreement = disagreement
		return recording, err
	}
	err = recording.extend(run, options, NewGenerator(options, run))
	recording.Tally, recording.Spent, recording.Events = run.Tally, run.Spent, len(run.history)
	return recording, err
}

// extend executes the prologue and then generates operations, for a run under way.
func (rec *Recording) extend(run *Run, options Options, generator *Generator) error {
	execute := func(op Op) (done bool, err error) {
		rec.Ops = append(rec.Ops, op)
		rec.Disagreement, err = run.Step(op)
		return rec.Disagreement != nil || err != nil, err
	}
	for _, op := range options.Prologue {
		if done, err := execute(op); done {
			return err
		}
	}
	for range options.Ops {
		if done, err := execute(generator.Next()); done {
			return err
		}
	}
	for _, op := range generator.Last() {
		if done, err := execute(op); done {
			return err
		}
	}
	return nil
}

// Replay executes given operations on two sides in their first state.
func Replay(ops []Op, reference, candidate *Side) (*Disagreement, error) {
	run, disagreement, err := NewRun(reference, candidate)
	defer run.Close()
	for _, op := range ops {
		if disagreement != nil || err != nil {
			break
		}
		disagreement, err = run.Step(op)
	}
	return disagreement, err
}

// Shrink looks for a shorter list of operations that also ends in a disagreement, by leaving out kinds of operations,
// then halves, quarters and so on. replay executes a list on fresh servers; it is called at most tries times and not after the deadline. The
// shortest list that failed is returned with its disagreement, or nil if none did, not even the whole.
//
// Operations name revisions outright, so a list without some of its operations is another story, which ends in the
// same disagreement or does not. That is enough: what fails is a failure, however it was found.
func Shrink(ops []Op, tries int, deadline time.Time, replay func([]Op) (*Disagreement, error)) (*Recording, error) {
	attempt := func(list []Op) (*Recording, error) {
		tries--
		disagreement, err := replay(list)
		if disagreement == nil || err != nil {
			return nil, err
		}
		end := min(disagreement.Index+1, len(list))
		return &Recording{Ops: list[:end], Disagreement: disagreement}, nil
	}
	best, err := attempt(ops)
	if best == nil || err != nil {
		return nil, err
	}
	// shorten tries a list and takes it over if it fails too. The last operation, which fails, is always part of it.
	shorten := func(keep func(i int) bool) (taken, over bool, err error) {
		if tries <= 0 || time.Now().After(deadline) {
			return false, true, nil
		}
		var list []Op
		for i, op := range best.Ops {
			if keep(i) || i == len(best.Ops)-1 {
				list = append(list, op)
			}
		}
		if len(list) == len(best.Ops) {
			return false, false, nil
		}
		shorter, err := attempt(list)
		if err != nil {
			return false, true, fmt.Errorf("shrink to %d operations: %w", len(list), err)
		}
		if shorter != nil {
			best = shorter
		}
		return shorter != nil, false, nil
	}
	// Whole kinds first: most of them have nothing to do with it, and some take seconds each.
	for _, kind := range slowestFirst {
		if _, over, err := shorten(func(i int) bool { return best.Ops[i].Kind != kind }); over {
			return best, err
		}
	}
	for size := (len(best.Ops) + 1) / 2; size > 0; size /= 2 {
		for from := 0; from < len(best.Ops)-1; {
			taken, over, err := shorten(func(i int) bool { return i < from || i >= from+size })
			if over {
				return best, err
			}
			if !taken {
				from += size
			}
		}
	}
	return best, nil
}

// slowestFirst are the kinds that shrinking tries to do without.
var slowestFirst = []Kind{KindRestart, KindExpiry, KindShortGrant, KindWatch, KindSync, KindHashKV, KindRange, KindRangeStream, KindTxn,
	KindKeepAlive, KindLeases, KindLeaseTTL, KindAlarm, KindLeaseRevoke, KindLeaseGrant, KindDelete, KindCompact, KindPut}
