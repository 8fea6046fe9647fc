package state

import (
	"testing"

	"keelson/command"
	"keelson/state/auth"
)

// What happens to tokens is told when it is in the store and before anybody can see the users that come with it; runs in which nothing
// happens to them tell nothing.
func TestTokensBeforeUsers(t *testing.T) {
	x := newMember(t)
	told := 0
	run := func(want int, ops ...command.Op) {
		t.Helper()
		before, at := x.m.Users(), x.m.Applied()
		n := told
		out, err := x.m.ApplyTelling([]Entry{entryAfter(at, ops...)}, func(changes []auth.TokenChange) {
			told += len(changes)
			if x.m.Users() != before || x.m.Applied() != at {
				t.Error("told when it can be seen already")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range out.Batches {
			for i, r := range b.Results {
				if r.Refusal != nil {
					t.Errorf("%T: %v", ops[i], r.Refusal)
				}
			}
		}
		if told-n != want || len(out.Tokens) != want {
			t.Errorf("told of %d changes, %d in the outcome, want %d", told-n, len(out.Tokens), want)
		}
	}
	run(0, &command.UserAdd{Name: auth.Root, Hash: []byte("x")}, &command.UserGrantRole{Name: auth.Root, Role: auth.Root})
	run(0, &command.Put{Key: []byte("k")})
	run(1, &command.UserChangePassword{Name: auth.Root, Hash: []byte("y")})
	if x.apply(entryAfter(x.m.Applied(), &command.UserChangePassword{Name: auth.Root, Hash: []byte("z")})); told != 1 {
		t.Error("whom Apply was not given was told")
	}
}
