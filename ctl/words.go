package ctl

import (
	"regexp"
	"strconv"
	"strings"
)

// word is one argument of a line: in double quotes with escapes as Go has them, in single quotes as it stands, or without
// quotes up to a space.
var word = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*[^'"\s]?`)

// words splits a line that was typed into txn or watch. A quote that is never closed is ignored.
func words(line string) []string {
	list := word.FindAllString(line, -1)
	for i, w := range list {
		switch {
		case len(w) > 1 && strings.HasPrefix(w, `"`):
			if unquoted, err := strconv.Unquote(w); err == nil {
				list[i] = unquoted
			} else {
				list[i] = w[1 : len(w)-1]
			}
		case len(w) > 1 && strings.HasPrefix(w, "'"):
			list[i] = w[1 : len(w)-1]
		}
	}
	return list
}
