package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
	"keelson/server/bootstrap"
	"keelson/server/datadir"
	"keelson/transport"
)

// contactsName is the file that tells a member that joins whom to answer, until it is given a state that does.
const contactsName = "CONTACTS"

// contactsBytesMax bounds that file.
const contactsBytesMax = 1 << 20

// writeContacts writes the file into a directory that is committed afterwards.
func writeContacts(fs env.FS, dir *datadir.Dir, members []bootstrap.Member) error {
	var list []transport.Peer
	for _, m := range members {
		list = append(list, transport.Peer{ID: m.ID, URLs: m.PeerURLs})
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	f, err := fs.Create(fs.PathJoin(dir.Member(), contactsName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write contacts: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write contacts: %w", err)
	}
	return nil
}

// contacts reads the file; none is no contacts.
func (e *engine) contacts() (list []transport.Peer, err error) {
	f, err := e.fs.Open(e.fs.PathJoin(e.dir.Member(), contactsName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read contacts: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, contactsBytesMax))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read contacts: %w", err)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read contacts: %w", err)
	}
	return list, nil
}
