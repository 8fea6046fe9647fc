package auth

// Request is what somebody asks for: a command.Op, or one of the types below for what never enters the log.
type Request interface{}

// The requests that are no commands.
type (
	// Public is what everybody may ask for.
	Public struct{}
	// AnyUser is what every user may ask for.
	AnyUser struct{}
	// Administration is what only users with the role root may ask for.
	Administration struct{}
	// Watch reads the keys of a range selector from now on.
	Watch struct{ Key, End []byte }
	// Keys reads keys.
	Keys struct{ Keys [][]byte }
	// LeaseRenew prolongs a lease, and so the life of its keys.
	LeaseRenew struct{ ID int64 }
	// LeaseLookup asks how long a lease has left and, if Keys is set, for its keys.
	LeaseLookup struct {
		ID   int64
		Keys bool
	}
	// LeaseList asks which leases there are.
	LeaseList struct{}
	// UserLookup asks for the roles of a user.
	UserLookup struct{ Name string }
	// RoleLookup asks for the permissions of a role.
	RoleLookup struct{ Name string }
)

// Leases tells which keys hang on leases, as they are at the moment.
type Leases interface {
	// KeyFrom returns the first key of a lease that is not below from; ok is false if there is none.
	KeyFrom(id int64, from []byte) (key []byte, ok bool, err error)
	// AllKeys yields the keys of all leases until yield returns false.
	AllKeys(yield func(key []byte) bool) error
}
