package auth

import "errors"

// Refusals. Whatever meets one of them changes nothing.
var (
	// ErrNoRoot refuses to enable while there is no user root.
	ErrNoRoot = errors.New("root user does not exist")
	// ErrNoRootRole refuses to enable while the user root lacks the role root.
	ErrNoRootRole = errors.New("root user does not have root role")
	// ErrUserExists refuses to add a user whose name is taken.
	ErrUserExists = errors.New("user name already exists")
	// ErrUserEmpty refuses to add a user without a name, and whoever does not say who he is.
	ErrUserEmpty = errors.New("user name is empty")
	// ErrUserNotFound refuses what is about a user that there is not, and to administer under the name of one.
	ErrUserNotFound = errors.New("user name not found")
	// ErrRoleExists refuses to add a role whose name is taken.
	ErrRoleExists = errors.New("role name already exists")
	// ErrRoleEmpty refuses to add a role without a name.
	ErrRoleEmpty = errors.New("role name is empty")
	// ErrRoleNotFound refuses what is about a role that there is not.
	ErrRoleNotFound = errors.New("role name not found")
	// ErrRoleNotGranted refuses to take from a user a role that he does not have.
	ErrRoleNotGranted = errors.New("role is not granted to the user")
	// ErrPermissionNotGranted refuses to take from a role a permission that it does not have.
	ErrPermissionNotGranted = errors.New("permission is not granted to the role")
	// ErrInvalidManagement refuses what would lock everybody out while users have to say who they are, and a permission for
	// a range of no keys.
	ErrInvalidManagement = errors.New("invalid auth management")
	// ErrNotEnabled refuses to log in where nobody has to.
	ErrNotEnabled = errors.New("authentication is not enabled")
	// ErrDenied refuses what the caller has no right to.
	ErrDenied = errors.New("permission denied")
	// ErrOldRevision refuses what was admitted by users and roles as they were before a change. It may be tried again.
	ErrOldRevision = errors.New("revision of auth store is old")
)
