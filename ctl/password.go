package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// askPassword prompts on stdout and reads a line; a terminal does not show what is typed.
func (s *session) askPassword(prompt string) (string, error) {
	fmt.Fprint(s.out, prompt)
	if f, ok := s.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		secret, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(s.out)
		return string(secret), err
	}
	defer fmt.Fprintln(s.out)
	return s.readLine()
}

// readLine takes one line from stdin and not a byte more, without its end.
func (s *session) readLine() (string, error) {
	var line []byte
	var one [1]byte
	for {
		n, err := s.in.Read(one[:])
		if n == 1 {
			if one[0] == '\n' {
				break
			}
			line = append(line, one[0])
			continue
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return strings.TrimSuffix(string(line), "\r"), nil
}
