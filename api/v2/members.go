package v2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"keelson/command"
	"keelson/state"
	"keelson/state/members"
)

// Cluster changes who belongs.
type Cluster interface {
	ChangeMembers(ctx context.Context, op command.Op) (state.Result, error)
}

// memberJSON is a member as clients see it.
type memberJSON struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
}

func memberOf(m *members.Member) memberJSON {
	return memberJSON{ID: hex(m.ID), Name: m.Name, PeerURLs: orEmpty(m.PeerURLs), ClientURLs: orEmpty(m.ClientURLs)}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

const membersPath = "/v2/members"

// members answers requests under /v2/members.
//
// Source: v2 API specification, 11.1.
func (h *Handler) members(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut) {
		return
	}
	if r.Method == http.MethodGet {
		w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
		h.memberGet(w, strings.TrimPrefix(r.URL.Path, membersPath))
		return
	}
	if h.o.Access != nil && !h.o.Access.isRoot(r) {
		writeMessage(w, http.StatusUnauthorized, insufficient)
		return
	}
	w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
	if r.Method == http.MethodPost {
		h.memberAdd(w, r)
		return
	}
	text := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, membersPath), "/")
	if text == "" {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		writeMessage(w, http.StatusNotFound, "No such member: "+text)
		return
	}
	if r.Method == http.MethodDelete {
		h.memberRemove(w, r, id)
	} else {
		h.memberUpdate(w, r, id)
	}
}

func (h *Handler) memberGet(w http.ResponseWriter, which string) {
	set := h.membership()
	switch which {
	case "", "/":
		list := struct {
			Members []memberJSON `json:"members"`
		}{[]memberJSON{}}
		for _, m := range set.List() {
			list.Members = append(list.Members, memberOf(&m))
		}
		writeJSON(w, http.StatusOK, list)
	case "/leader":
		leader, ok := set.Get(h.o.Member.Status().Leader)
		if !ok {
			writeMessage(w, http.StatusServiceUnavailable, "During election")
			return
		}
		writeJSON(w, http.StatusOK, memberOf(&leader))
	default:
		writeMessage(w, http.StatusNotFound, "Not found")
	}
}

// membership is what this member knows of who belongs.
func (h *Handler) membership() *members.Set {
	view := h.o.Member.ReadLocal()
	defer view.Close()
	return view.Members()
}

func (h *Handler) memberAdd(w http.ResponseWriter, r *http.Request) {
	urls, ok := readPeerURLs(w, r)
	if !ok {
		return
	}
	m := members.Member{ID: members.ID(urls, "", h.o.Clock.Now().Unix()), PeerURLs: urls}
	if h.changeMembers(w, r, m.ID, &command.MemberAdd{ID: m.ID, PeerURLs: urls}) {
		writeJSON(w, http.StatusCreated, memberOf(&m))
	}
}

func (h *Handler) memberRemove(w http.ResponseWriter, r *http.Request, id uint64) {
	if h.membership().Removed(id) {
		writeMessage(w, http.StatusGone, "Member permanently removed: "+hex(id))
		return
	}
	if h.changeMembers(w, r, id, &command.MemberRemove{ID: id}) {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (h *Handler) memberUpdate(w http.ResponseWriter, r *http.Request, id uint64) {
	urls, ok := readPeerURLs(w, r)
	if ok && h.changeMembers(w, r, id, &command.MemberUpdate{ID: id, PeerURLs: urls}) {
		w.WriteHeader(http.StatusNoContent)
	}
}

// changeMembers carries out a change; if it could not be, that is answered.
func (h *Handler) changeMembers(w http.ResponseWriter, r *http.Request, id uint64, op command.Op) (done bool) {
	result, err := h.o.Cluster.ChangeMembers(r.Context(), op)
	if err == nil {
		err = result.Refusal
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, members.ErrNotFound):
		writeMessage(w, http.StatusNotFound, "No such member: "+hex(id))
	case errors.Is(err, members.ErrExists):
		writeMessage(w, http.StatusConflict, "membership: ID exists")
	case errors.Is(err, members.ErrPeerURLExists):
		writeMessage(w, http.StatusConflict, "membership: peerURL exists")
	default:
		writeMessage(w, http.StatusInternalServerError, "Internal Server Error")
	}
	return false
}

// memberBodyMax bounds the body of a request about members or users.
const memberBodyMax = 1 << 20

// readPeerURLs reads the addresses of a member from a request; if that is not possible, that is answered.
func readPeerURLs(w http.ResponseWriter, r *http.Request) (urls []string, ok bool) {
	typ := r.Header.Get("Content-Type")
	if before, _, more := strings.Cut(typ, ";"); more {
		typ = strings.TrimSpace(strings.ToLower(before))
	}
	if typ != "application/json" {
		writeMessage(w, http.StatusUnsupportedMediaType, fmt.Sprintf("Bad Content-Type %s, accept application/json", typ))
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, memberBodyMax))
	if err == nil {
		urls, err = parsePeerURLs(body)
	}
	if err != nil {
		writeMessage(w, http.StatusBadRequest, err.Error())
		return nil, false
	}
	return urls, true
}

func parsePeerURLs(body []byte) ([]string, error) {
	var in struct {
		PeerURLs []string `json:"peerURLs"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	if len(in.PeerURLs) == 0 {
		return nil, errors.New("no valid URLs given")
	}
	urls := make([]string, len(in.PeerURLs))
	for i, text := range in.PeerURLs {
		text = strings.TrimSpace(text)
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		if err := checkPeerURL(u, text); err != nil {
			return nil, err
		}
		urls[i] = u.String()
	}
	slices.Sort(urls)
	return urls, nil
}

func checkPeerURL(u *url.URL, text string) error {
	switch u.Scheme {
	case "unix", "unixs":
		return nil
	case "http", "https":
	default:
		return fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", text)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
	}
	if u.Path != "" {
		return fmt.Errorf("URL must not contain a path: %s", text)
	}
	return nil
}

// machines answers /v2/machines: where clients reach the members.
//
// Source: v2 API specification, 11.2.
func (h *Handler) machines(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	var urls []string
	for _, m := range h.membership().List() {
		urls = append(urls, m.ClientURLs...)
	}
	slices.Sort(urls)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, strings.Join(urls, ", "))
}

// writeJSON answers with a value and a newline.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("v2: an answer can't be encoded: " + err.Error())
	}
	w.Header()["Content-Type"] = contentJSON
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// writeMessage answers, away from keys, with an error.
func writeMessage(w http.ResponseWriter, status int, message string) {
	w.Header()["Content-Type"] = contentJSON
	w.WriteHeader(status)
	w.Write(append(appendString([]byte(`{"message":`), message), '}'))
}

// insufficient is what those read who may not.
const insufficient = "Insufficient credentials"
