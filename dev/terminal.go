package dev

import (
	"os"

	"golang.org/x/sys/unix"
)

const widthDefault = 80

// widthOf returns what tells the width of the terminal f; nil: f is no terminal.
func widthOf(f *os.File) func() int {
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return nil
	}
	return func() int {
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 {
			return widthDefault
		}
		return int(size.Col)
	}
}
