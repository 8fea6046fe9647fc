package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"

	"keelson/server/bootstrap"
	"keelson/server/datadir"
	"keelson/transport"
)

// contactsName is the file that tells whom to ask and to answer as long as there is no state that says so: that of a member
// that joins has not come yet, or it is damaged.
const contactsName = "CONTACTS"

// contactsBytesMax bounds that file.
const contactsBytesMax = 1 << 20

// contactsOf are the other members as a new member knows them.
func contactsOf(b bootstrap.Beginning) (list []transport.Peer) {
	for _, m := range b.Contacts {
		list = append(list, transport.Peer{ID: m.ID, URLs: m.PeerURLs})
	}
	for _, m := range b.Members {
		if m.ID != b.MemberID {
			list = append(list, transport.Peer{ID: m.ID, URLs: m.PeerURLs})
		}
	}
	return list
}

// writeContacts writes the file, all or nothing.
func writeContacts(dir *datadir.Dir, list []transport.Peer) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := dir.Write(contactsName, string(text)); err != nil {
		return fmt.Errorf("write contacts: %w", err)
	}
	return nil
}

// remember writes the file when the members have changed. That it fails is no reason to end.
func (e *engine) remember(list []transport.Peer) {
	text, err := json.Marshal(list)
	if err != nil || string(text) == e.known {
		return
	}
	if err := writeContacts(e.dir, list); err != nil {
		e.logger.Warn("failed to note who the other members are", zap.Error(err))
		return
	}
	e.known = string(text)
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
		return nil, fmt.Errorf("%w: %s does not name the other members (%v): remove that file if the member has been in the cluster "+
			"before, otherwise the directory, and let it join again", datadir.ErrDamaged, e.fs.PathJoin(e.dir.Member(), contactsName), err)
	}
	return list, nil
}
