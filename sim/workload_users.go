package sim

import (
	"math/rand/v2"

	"keelson/command"
	"keelson/command/commandtest"
	"keelson/state/auth"
)

func generator(rng *rand.Rand) commandtest.Generator {
	return commandtest.Generator{R: rng, Keys: 5, Wild: rng.IntN(8) == 0}
}

// everybodyNamed is a history in which users have to say who they are, and some may do something.
func everybodyNamed() []command.Op {
	return []command.Op{
		&command.UserAdd{Name: "root"}, &command.UserGrantRole{Name: "root", Role: "root"},
		&command.UserAdd{Name: "ann"}, &command.UserAdd{Name: "ben"},
		&command.RoleAdd{Name: "reader"}, &command.RoleAdd{Name: "writer"},
		&command.RoleGrantPermission{Role: "reader", Access: 0, Key: []byte{0}, End: []byte{0}},
		&command.RoleGrantPermission{Role: "writer", Access: 1, Key: []byte("k00"), End: []byte("k05")},
		&command.RoleGrantPermission{Role: "writer", Access: 2, Key: []byte("k03"), End: []byte{0}},
		&command.UserGrantRole{Name: "ann", Role: "reader"}, &command.UserGrantRole{Name: "ann", Role: "writer"},
		&command.UserGrantRole{Name: "ben", Role: "writer"},
		&command.AuthEnable{},
	}
}

// usersOp is a change of users and roles, over the keys that clients use.
func (l *load) usersOp(g *commandtest.Generator) command.Op {
	op := g.AuthOp()
	switch o := op.(type) {
	case *command.RoleGrantPermission:
		o.Key, o.End = l.selector(g.R)
	case *command.RoleRevokePermission:
		o.Key, o.End = l.selector(g.R)
	}
	return op
}

// caller is who asks through this member, and by which revision of users and roles it lets him in: 0 if it asks itself.
func (m *member) caller() (user string, revision uint64) {
	rng := m.w.rng
	if m.w.load.users == 0 || rng.IntN(4) == 0 {
		return "", 0
	}
	g := generator(rng)
	user, revision = g.User(), m.machine.Users().Revision()
	switch n := rng.IntN(32); {
	case n < 16:
		user = "root"
	case n < 18:
		user = ""
	case n < 20:
		revision = max(revision, 2) - 1
	}
	return user, revision
}

// anyRequest is something that rights are asked for.
func (l *load) anyRequest(rng *rand.Rand, now int64) auth.Request {
	switch rng.IntN(7) {
	case 0:
		return l.putOp(rng)
	case 1:
		return l.deleteOp(rng)
	case 2:
		return l.txnOp(rng, now, 0)
	case 3:
		key, end := l.selector(rng)
		return auth.Watch{Key: key, End: end}
	case 4:
		return auth.LeaseRenew{ID: leaseID(rng)}
	case 5:
		return &command.UserAdd{Name: "ann"}
	}
	return l.rangeOp(rng, now)
}
