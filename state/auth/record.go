package auth

import (
	"encoding/binary"
	"fmt"
)

// Records in storage.Auth. The first byte of a key says what it is about:
//
//	's'         status   version(1) = 1 | enabled(1): 0 or 1 | revision(8, little endian)
//	'u' | name  user     version(1) = 1 | flags(1): 1 no password | hash | role count(uvarint) | role name...
//	'r' | name  role     version(1) = 1 | permission count(uvarint) | { access(uvarint, its 32 bits) | key | end }...
//
// where hash, names, keys and ends are length(uvarint) | bytes. Without a status nothing is enabled, and the revision is 1.
const (
	keyRole   = 'r'
	keyStatus = 's'
	keyUser   = 'u'

	recordVersion  = 1
	flagNoPassword = 1
)

func recordKey(kind byte, name string) []byte { return append([]byte{kind}, name...) }

func encodeStatus(enabled bool, revision uint64) []byte {
	b := []byte{recordVersion, 0}
	if enabled {
		b[1] = 1
	}
	return binary.LittleEndian.AppendUint64(b, revision)
}

func encodeUser(u *User) []byte {
	b := []byte{recordVersion, 0}
	if u.NoPassword {
		b[1] = flagNoPassword
	}
	b = appendBytes(b, u.Hash)
	b = binary.AppendUvarint(b, uint64(len(u.Roles)))
	for _, name := range u.Roles {
		b = appendBytes(b, []byte(name))
	}
	return b
}

func encodeRole(r *Role) []byte {
	b := binary.AppendUvarint([]byte{recordVersion}, uint64(len(r.Permissions)))
	for _, p := range r.Permissions {
		b = binary.AppendUvarint(b, uint64(uint32(p.Access)))
		b = appendBytes(b, p.Key)
		b = appendBytes(b, p.End)
	}
	return b
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func decodeStatus(b []byte) (enabled bool, revision uint64, err error) {
	if len(b) != 10 || b[0] != recordVersion || b[1] > 1 {
		return false, 0, fmt.Errorf("status is not one of version %d: %x", recordVersion, b)
	}
	return b[1] == 1, binary.LittleEndian.Uint64(b[2:]), nil
}

// decodeUser does not put the record into its errors: it holds the hash of a password.
func decodeUser(name string, b []byte) (*User, error) {
	d := decoder{rest: b}
	version, flags := d.byte(), d.byte()
	u := &User{Name: name, NoPassword: flags == flagNoPassword, Hash: d.bytes()}
	for range d.count() {
		u.Roles = append(u.Roles, string(d.bytes()))
	}
	if d.bad || len(d.rest) > 0 || version != recordVersion || flags > flagNoPassword {
		return nil, fmt.Errorf("record of user %q is damaged, or not one of version %d", name, recordVersion)
	}
	return u, nil
}

func decodeRole(name string, b []byte) (*Role, error) {
	d := decoder{rest: b}
	version := d.byte()
	r := &Role{Name: name}
	for range d.count() {
		r.Permissions = append(r.Permissions, Permission{Access: Access(int32(d.uvarint())), Key: d.bytes(), End: d.bytes()})
	}
	if d.bad || len(d.rest) > 0 || version != recordVersion {
		return nil, fmt.Errorf("record of role %q is damaged, or not one of version %d: %x", name, recordVersion, b)
	}
	return r, nil
}

// decoder takes a record apart. Once bad, everything it gives is empty.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	b := d.take(1)
	if d.bad {
		return 0
	}
	return b[0]
}

func (d *decoder) uvarint() uint64 {
	n, k := binary.Uvarint(d.rest)
	if d.bad || k <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[k:]
	return n
}

// count is how many elements follow; each takes a byte at least.
func (d *decoder) count() uint64 {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return 0
	}
	return n
}

// bytes returns a copy; nil for none.
func (d *decoder) bytes() []byte { return append([]byte(nil), d.take(d.uvarint())...) }
