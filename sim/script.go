package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Script is a run that is kept: a seed, and which of the things that somebody does there (requests, faults, changes of the
// weather and of members, flushes, ...) do happen. The rest of the seed is as it is: when, how long, in which order.
//
// As text it is lines of a word and what it is about; # begins a comment:
//
//	seed 17          and the same for members and steps; see Options
//	calm             see Options
//	bug NAME         the deliberate bug that the run shows: with it there is a failure, without it none
//	wants TEXT       is in that failure
//	reaches TEXT     a rare state that the run must get into, with the bug or without; several lines
//	only WHO 1 3-7   what WHO does, by number, counted from 1; several lines. None at all: everybody does everything
type Script struct {
	Options
	Wants   string
	Reaches []string
}

// act is one thing that somebody does.
type act struct {
	who    string // "m1 request", "weather"
	number int
}

// Acts are things that somebody does.
type Acts map[act]bool

// Len is the number of things.
func (a Acts) Len() int { return len(a) }

// Without is a without every k-th of n parts, in order.
func (a Acts) Without(k, n int) Acts {
	all := slices.SortedFunc(maps.Keys(a), func(x, y act) int { return strings.Compare(x.String(), y.String()) })
	less := Acts{}
	for i, x := range all {
		if i*n/len(all) != k {
			less[x] = true
		}
	}
	return less
}

func (a act) String() string { return fmt.Sprintf("%s %09d", a.who, a.number) }

// act lets somebody do something, or not if the script leaves it out. What is drawn meanwhile is drawn from a source of its
// own: what is left out changes nothing else but by its consequences.
func (w *world) act(who string, f func()) {
	w.counts[who]++
	a, own := act{who, w.counts[who]}, w.rng.Uint64()
	if w.o.Only != nil && !w.o.Only[a] {
		return
	}
	w.acts[a] = true
	outer := w.rng
	w.rng = newChance(own)
	defer func() { w.rng = outer }()
	f()
}

// ParseScript reads a script.
func ParseScript(text string) (s Script, err error) {
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var n uint64
		switch word {
		case "":
		case "seed", "members", "steps":
			n, err = strconv.ParseUint(rest, 10, 64)
			switch word {
			case "seed":
				s.Seed = n
			case "members":
				s.Members = int(n)
			case "steps":
				s.Steps = int(n)
			}
		case "calm":
			s.Calm = true
		case "bug":
			s.Bug = rest
		case "wants":
			s.Wants = rest
		case "reaches":
			s.Reaches = append(s.Reaches, rest)
		case "only":
			err = s.addOnly(strings.Fields(rest))
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return s, fmt.Errorf("sim: script: line %d: %w", i+1, err)
		}
	}
	return s, nil
}

func (s *Script) addOnly(fields []string) error {
	if s.Only == nil {
		s.Only = Acts{}
	}
	var who []string
	for _, f := range fields {
		first, last, isRange := strings.Cut(f, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			who = append(who, f)
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(last); err != nil {
				return err
			}
		}
		if len(who) == 0 || to-from > 1e6 {
			return fmt.Errorf("what is %s", f)
		}
		for n := from; n <= to; n++ {
			s.Only[act{strings.Join(who, " "), n}] = true
		}
	}
	return nil
}

// String is the script as text.
func (s *Script) String() string {
	text := fmt.Sprintf("seed %d\nmembers %d\nsteps %d\n", s.Seed, s.Members, s.Steps)
	if s.Calm {
		text += "calm\n"
	}
	if s.Bug != "" {
		text += "bug " + s.Bug + "\n"
	}
	if s.Wants != "" {
		text += "wants " + s.Wants + "\n"
	}
	for _, r := range s.Reaches {
		text += "reaches " + r + "\n"
	}
	if s.Only == nil {
		return text
	}
	numbers := map[string][]int{}
	for a := range s.Only {
		numbers[a.who] = append(numbers[a.who], a.number)
	}
	for _, who := range slices.Sorted(maps.Keys(numbers)) {
		slices.Sort(numbers[who])
		text += "only " + who + ranges(numbers[who]) + "\n"
	}
	if len(numbers) == 0 {
		text += "only\n"
	}
	return text
}

// ranges are numbers as text, those that follow on each other as 3-7.
func ranges(numbers []int) (text string) {
	for i := 0; i < len(numbers); {
		k := i
		for k+1 < len(numbers) && numbers[k+1] == numbers[k]+1 {
			k++
		}
		text += " " + strconv.Itoa(numbers[i])
		if k > i {
			text += "-" + strconv.Itoa(numbers[k])
		}
		i = k + 1
	}
	return text
}

// Holds says what is wrong with a run of the script with its bug, if it has one; empty: nothing.
func (s *Script) Holds(r *Report) string {
	for _, state := range s.Reaches {
		if r.Reached[state] == 0 {
			return fmt.Sprintf("it does not reach: %s", state)
		}
	}
	switch {
	case s.Bug == "" && r.Failure != nil:
		return r.Failure.Error()
	case s.Bug != "" && r.Failure == nil:
		return "nothing is seen of the bug " + s.Bug
	case s.Bug != "" && !strings.Contains(r.Failure.Error(), s.Wants):
		return fmt.Sprintf("wants %q in: %v", s.Wants, r.Failure)
	}
	return ""
}
