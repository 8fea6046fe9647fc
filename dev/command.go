package dev

import (
	"fmt"
	"slices"
	"strings"
)

// order is a line that somebody typed.
type order struct {
	verb   string
	member string // empty for verbs that are about all members
}

var (
	memberVerbs = []string{"kill", "stop", "start", "pause", "resume"}
	fleetVerbs  = []string{"status", "help", "quit"}
)

// parseOrder reads a typed line. An empty one is the empty order.
func parseOrder(line string, names []string) (order, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return order{}, nil
	}
	verb := words[0]
	switch verb {
	case "exit":
		verb = "quit"
	case "?":
		verb = "help"
	}
	switch {
	case slices.Contains(fleetVerbs, verb):
		if len(words) > 1 {
			return order{}, fmt.Errorf("%s takes no member", verb)
		}
		return order{verb: verb}, nil
	case !slices.Contains(memberVerbs, verb):
		return order{}, fmt.Errorf("unknown command %q; there are: %s", verb, strings.Join(append(slices.Clone(memberVerbs), fleetVerbs...), ", "))
	case len(words) != 2 || !slices.Contains(names, words[1]):
		return order{}, fmt.Errorf("%s needs one member: %s", verb, strings.Join(names, ", "))
	}
	return order{verb, words[1]}, nil
}
