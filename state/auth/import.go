package auth

import (
	"slices"

	"keelson/storage"
)

// Import writes users and roles that come from elsewhere into a database without any. They and what they hold may come in
// any order; of permissions for the same keys the last counts.
func Import(b *storage.Batch, enabled bool, revision uint64, users []*User, roles []*Role) {
	tx := Begin(b, &Set{})
	if enabled || revision > firstRevision {
		tx.replace(&Set{enabled: enabled, revision: max(revision, firstRevision)})
	}
	for _, u := range users {
		u := *u
		u.Roles = slices.Compact(slices.Sorted(slices.Values(u.Roles)))
		tx.storeUser(&u)
	}
	for _, r := range roles {
		r := *r
		r.Permissions = byKeys(r.Permissions)
		tx.storeRole(&r)
	}
}

// byKeys puts permissions in order, one for the same keys.
func byKeys(list []Permission) []Permission {
	var sorted []Permission
	for _, p := range list {
		i, found := slices.BinarySearchFunc(sorted, p, comparePermissions)
		if found {
			sorted[i] = p
		} else {
			sorted = slices.Insert(sorted, i, p)
		}
	}
	return sorted
}
