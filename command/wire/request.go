package wire

import (
	"encoding/base64"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/command"
)

// What etcd has beside what stands in a request when it carries it out.
const (
	// leaseTTLMin is the least that a lease lives, by etcd's default for elections; it counts when the lease is granted.
	leaseTTLMin = 2
	// leaseTTLMax is the most that etcd grants.
	leaseTTLMax = 9_000_000_000
)

// Request is a request of etcd's raft log; ok is false if it changes nothing of what a state is imported for: what it tells of
// members and versions is about a cluster that is left behind. hash hashes a password: before 3.5, the log of etcd held what users
// had typed.
//
// Errors: those of hash.
func Request(r *pb.InternalRaftRequest, hash func(password string) ([]byte, error)) (c command.Command, ok bool, err error) {
	// Revision 0 is for members themselves; a client that nobody had asked who it was counts as one that knew nothing.
	c = command.Command{User: r.GetHeader().GetUsername(), AuthRevision: max(1, r.GetHeader().GetAuthRevision())}
	switch {
	case r.Put != nil:
		c.Op = Put(r.Put)
	case r.DeleteRange != nil:
		c.Op = DeleteRange(r.DeleteRange)
	case r.Txn != nil:
		c.Op = Txn(r.Txn)
	case r.Compaction != nil:
		c.AuthRevision, c.Op = 0, &command.Compact{Revision: r.Compaction.Revision}
	case r.LeaseGrant != nil && r.LeaseGrant.ID != 0 && r.LeaseGrant.TTL <= leaseTTLMax:
		c.Op = &command.LeaseGrant{ID: r.LeaseGrant.ID, TTLSeconds: max(leaseTTLMin, r.LeaseGrant.TTL)}
	case r.LeaseRevoke != nil:
		c.Op = &command.LeaseRevoke{ID: r.LeaseRevoke.ID}
	case r.LeaseCheckpoint != nil:
		c.AuthRevision, c.Op = 0, leaseCheckpoint(r.LeaseCheckpoint)
	case r.Alarm != nil && r.Alarm.Action != pb.AlarmRequest_GET:
		c.AuthRevision = 0
		c.Op = &command.Alarm{Member: r.Alarm.MemberID, Type: int32(r.Alarm.Alarm), Raise: r.Alarm.Action == pb.AlarmRequest_ACTIVATE}
	default:
		c.Op, err = aboutUsers(r, hash)
	}
	return c, c.Op != nil, err
}

func leaseCheckpoint(r *pb.LeaseCheckpointRequest) *command.LeaseCheckpoint {
	o := &command.LeaseCheckpoint{}
	for _, l := range r.Checkpoints {
		o.Leases = append(o.Leases, command.LeaseRemaining{ID: l.ID, RemainingSeconds: l.Remaining_TTL})
	}
	return o
}

// aboutUsers is a request about users and roles; nil if it is not.
func aboutUsers(r *pb.InternalRaftRequest, hash func(string) ([]byte, error)) (command.Op, error) {
	switch {
	case r.AuthEnable != nil:
		return &command.AuthEnable{}, nil
	case r.AuthDisable != nil:
		return &command.AuthDisable{}, nil
	case r.AuthUserAdd != nil:
		q := r.AuthUserAdd
		o := &command.UserAdd{Name: q.Name, NoPassword: q.GetOptions().GetNoPassword()}
		var err error
		if !o.NoPassword {
			o.Hash, err = passwordHash(q.Password, q.HashedPassword, hash)
		}
		return o, err
	case r.AuthUserDelete != nil:
		return &command.UserDelete{Name: r.AuthUserDelete.Name}, nil
	case r.AuthUserChangePassword != nil:
		q := r.AuthUserChangePassword
		h, err := passwordHash(q.Password, q.HashedPassword, hash)
		return &command.UserChangePassword{Name: q.Name, Hash: h}, err
	case r.AuthUserGrantRole != nil:
		return &command.UserGrantRole{Name: r.AuthUserGrantRole.User, Role: r.AuthUserGrantRole.Role}, nil
	case r.AuthUserRevokeRole != nil:
		return &command.UserRevokeRole{Name: r.AuthUserRevokeRole.Name, Role: r.AuthUserRevokeRole.Role}, nil
	case r.AuthRoleAdd != nil:
		return &command.RoleAdd{Name: r.AuthRoleAdd.Name}, nil
	case r.AuthRoleDelete != nil:
		return &command.RoleDelete{Name: r.AuthRoleDelete.Role}, nil
	case r.AuthRoleGrantPermission != nil && r.AuthRoleGrantPermission.Perm != nil:
		return roleGrant(r.AuthRoleGrantPermission.Name, r.AuthRoleGrantPermission.Perm), nil
	case r.AuthRoleRevokePermission != nil:
		q := r.AuthRoleRevokePermission
		return &command.RoleRevokePermission{Role: q.Role, Key: q.Key, End: q.RangeEnd}, nil
	}
	return nil, nil
}

func roleGrant(role string, p *authpb.Permission) command.Op {
	return &command.RoleGrantPermission{Role: role, Access: int32(p.PermType), Key: p.Key, End: p.RangeEnd}
}

// passwordHash is the hash that the proposer made or, where it made none, one of the password.
func passwordHash(password, hashed string, hash func(string) ([]byte, error)) ([]byte, error) {
	if hashed != "" {
		return base64.StdEncoding.DecodeString(hashed)
	}
	return hash(password)
}
