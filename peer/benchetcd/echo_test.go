package main

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == echoWord { // one that a test has started
		runEcho(os.Args[2:])
	}
	os.Exit(m.Run())
}

// An echo answers, alone and of three, and leaves nothing behind.
func TestEcho(t *testing.T) {
	for _, members := range []int{1, 3} {
		dir := t.TempDir()
		took, err := echoTime(t.Context(), dir, members, 20)
		if err != nil || took <= 0 {
			t.Errorf("%d members: %v, %v", members, took, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%d members left %v, %v", members, left, err)
		}
	}
}

// Whoever cannot write says so.
func TestEchoWithoutRoom(t *testing.T) {
	if took, err := echoTime(t.Context(), t.TempDir()+"/none", 1, 20); err == nil {
		t.Errorf("an echo without a directory took %v", took)
	}
}
