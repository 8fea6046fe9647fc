package commandtest

import "keelson/command"

// AuthOp makes an op about users and roles. Enabling is as likely as disabling, and root more often gets its role than
// loses it, so that there are histories of both kinds.
func (g *Generator) AuthOp() command.Op {
	switch g.R.IntN(16) {
	case 0:
		return &command.AuthEnable{}
	case 1:
		if g.chance(3) {
			return &command.AuthDisable{}
		}
		return &command.AuthEnable{}
	case 2, 3:
		return &command.UserAdd{Name: g.User(), Hash: g.value(), NoPassword: g.chance(4)}
	case 4:
		return &command.UserDelete{Name: g.User()}
	case 5:
		return &command.UserChangePassword{Name: g.User(), Hash: g.value()}
	case 6, 7:
		return &command.UserGrantRole{Name: g.User(), Role: g.Role()}
	case 8:
		return &command.UserGrantRole{Name: "root", Role: "root"}
	case 9:
		return &command.UserRevokeRole{Name: g.User(), Role: g.Role()}
	case 10:
		return &command.RoleAdd{Name: g.Role()}
	case 11:
		return &command.RoleDelete{Name: g.Role()}
	case 12, 13:
		o := &command.RoleGrantPermission{Role: g.Role(), Access: int32(g.R.IntN(4))}
		o.Key, o.End = g.Selector()
		return o
	case 14:
		o := &command.RoleRevokePermission{Role: g.Role()}
		o.Key, o.End = g.Selector()
		return o
	}
	return &command.TokenAssign{User: g.User(), Digest: g.value()}
}

// Caller makes the name of who asks and the revision he was admitted at: 0 for the member itself, which is one in four.
func (g *Generator) Caller() (user string, revision uint64) {
	if g.chance(4) {
		return "", 0
	}
	user, revision = g.User(), max(g.AuthRevision, 1)
	if g.chance(2) {
		user = "root"
	}
	if g.chance(16) {
		user = ""
	}
	if g.chance(16) {
		revision = max(revision, 2) - 1
	}
	return user, revision
}

// User makes the name of a user: of four, root among them.
func (g *Generator) User() string {
	if g.Wild && g.chance(8) {
		return []string{"", "\x00", "\xff"}[g.R.IntN(3)]
	}
	return []string{"root", "ann", "ben", "cid"}[g.R.IntN(4)]
}

// Role makes the name of a role: of four, root among them.
func (g *Generator) Role() string {
	if g.Wild && g.chance(8) {
		return []string{"", "\x00", "\xff"}[g.R.IntN(3)]
	}
	return []string{"root", "reader", "writer", "keeper"}[g.R.IntN(4)]
}
