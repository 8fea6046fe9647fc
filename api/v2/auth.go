package v2

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"keelson/command"
	"keelson/state"
	"keelson/state/tree"
)

const authPath = "/v2/auth"

// auth answers requests under /v2/auth.
//
// Source: v2 API specification, 12.
func (h *Handler) auth(w http.ResponseWriter, r *http.Request) {
	below := strings.TrimPrefix(r.URL.Path, authPath)
	if below == "/enable" {
		h.authEnable(w, r)
		return
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(path.Clean(below), "/"), "/")
	if kind != "users" && kind != "roles" {
		http.NotFound(w, r)
		return
	}
	methods := []string{http.MethodGet, http.MethodPut, http.MethodDelete}
	if name == "" {
		methods = methods[:1]
	}
	if strings.Contains(name, "/") {
		writeMessage(w, http.StatusBadRequest, "Invalid path")
		return
	}
	if !allowed(w, r, methods...) || !h.authorized(w, r) {
		return
	}
	switch {
	case kind == "users" && name == "":
		h.userList(w)
	case kind == "users":
		h.userItem(w, r, name)
	case name == "":
		h.roleList(w)
	default:
		h.roleItem(w, r, name)
	}
}

// authorized refuses who may not change users and roles, nor look at them.
func (h *Handler) authorized(w http.ResponseWriter, r *http.Request) bool {
	if h.o.Access != nil && !h.o.Access.isRoot(r) {
		writeMessage(w, http.StatusUnauthorized, insufficient)
		return false
	}
	w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
	return true
}

func (h *Handler) authEnable(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodPut, http.MethodDelete) {
		return
	}
	if r.Method != http.MethodGet {
		if h.authorized(w, r) {
			if _, ok := h.changeAccess(w, r, &command.TreeAccess{Enabled: r.Method == http.MethodPut}); ok {
				w.WriteHeader(http.StatusOK)
			}
		}
		return
	}
	w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
	view := h.o.Member.ReadLocal()
	defer view.Close()
	writeJSON(w, http.StatusOK, struct {
		Enabled bool `json:"enabled"`
	}{view.TreeState().Access.Enabled})
}

// accessStatuses are the HTTP statuses of what is refused about users and roles.
var accessStatuses = map[tree.Code]int{
	tree.CodeAccessInvalid: http.StatusBadRequest, tree.CodeAccessForbidden: http.StatusForbidden,
	tree.CodeAccessMissing: http.StatusNotFound, tree.CodeAccessConflict: http.StatusConflict,
}

// changeAccess carries out a change of users and roles; if it could not be, that is answered.
func (h *Handler) changeAccess(w http.ResponseWriter, r *http.Request, op command.Op) (state.Result, bool) {
	result, err := h.o.Member.Propose(r.Context(), op)
	if err == nil {
		err = result.Refusal
	}
	switch {
	case err != nil:
		writeMessage(w, http.StatusInternalServerError, "Internal Server Error")
		return result, false
	case result.TreeRefusal != nil:
		writeMessage(w, accessStatuses[result.TreeRefusal.Code], result.TreeRefusal.Cause)
		return result, false
	}
	w.Header()["Content-Type"] = contentJSON // also of an answer without a body
	return result, true
}

// readTree lets f read the tree as it is here; a failure is answered.
func (h *Handler) readTree(w http.ResponseWriter, f func(t *tree.View) error) bool {
	view := h.o.Member.ReadLocal()
	defer view.Close()
	t, err := view.Tree()
	if err == nil {
		err = f(t)
		t.Close()
	}
	if err != nil {
		writeMessage(w, http.StatusInternalServerError, "Internal Server Error")
	}
	return err == nil
}

type patternsJSON struct {
	Read  []string `json:"read"`
	Write []string `json:"write"`
}

type permissionsJSON struct {
	KV patternsJSON `json:"kv"`
}

func (p *permissionsJSON) isEmpty() bool {
	return p == nil || len(p.KV.Read) == 0 && len(p.KV.Write) == 0
}

type roleJSON struct {
	Role        string           `json:"role"`
	Permissions permissionsJSON  `json:"permissions"`
	Grant       *permissionsJSON `json:"grant,omitempty"`
	Revoke      *permissionsJSON `json:"revoke,omitempty"`
}

func roleOf(r *tree.Role) roleJSON {
	return roleJSON{Role: r.Name, Permissions: permissionsJSON{patternsJSON{Read: r.Read, Write: r.Write}}}
}

type userJSON struct {
	User     string   `json:"user"`
	Password string   `json:"password,omitempty"`
	Roles    []string `json:"roles"`
	Grant    []string `json:"grant,omitempty"`
	Revoke   []string `json:"revoke,omitempty"`
}

type userWithRoles struct {
	User  string     `json:"user"`
	Roles []roleJSON `json:"roles,omitempty"`
}

func (h *Handler) userList(w http.ResponseWriter) {
	var list struct {
		Users []userWithRoles `json:"users"`
	}
	if h.readTree(w, func(t *tree.View) error {
		users, err := t.Users()
		for _, u := range users {
			item, _, err := withRoles(t, &u)
			if err != nil {
				return err
			}
			list.Users = append(list.Users, item)
		}
		return err
	}) {
		writeJSON(w, http.StatusOK, list)
	}
}

// withRoles looks up a user's roles. Missing is the first that does not exist, if any.
func withRoles(t *tree.View, u *tree.User) (item userWithRoles, missing string, err error) {
	item.User = u.Name
	for _, name := range u.Roles {
		r, err := t.Role(name)
		if err != nil {
			return item, "", err
		}
		if r == nil {
			missing = cmp.Or(missing, name)
			continue
		}
		item.Roles = append(item.Roles, roleOf(r))
	}
	return item, missing, nil
}

func (h *Handler) userItem(w http.ResponseWriter, r *http.Request, name string) {
	switch r.Method {
	case http.MethodGet:
		h.userGet(w, name)
	case http.MethodDelete:
		if _, ok := h.changeAccess(w, r, &command.TreeUser{Name: name, Mode: command.TreeAccessDelete}); ok {
			w.WriteHeader(http.StatusOK)
		}
	default:
		h.userPut(w, r, name)
	}
}

func (h *Handler) userGet(w http.ResponseWriter, name string) {
	var u *tree.User
	var item userWithRoles
	var missing string
	if !h.readTree(w, func(t *tree.View) (err error) {
		if u, err = t.User(name); err == nil && u != nil {
			item, missing, err = withRoles(t, u)
		}
		return err
	}) {
		return
	}
	switch {
	case u == nil:
		writeMessage(w, http.StatusNotFound, "auth: User "+name+" does not exist.")
	case missing != "":
		writeMessage(w, http.StatusNotFound, "auth: Role "+missing+" does not exist.")
	default:
		writeJSON(w, http.StatusOK, item)
	}
}

// readBody reads a JSON body; if it is none, that is answered.
func readBody(w http.ResponseWriter, r *http.Request, v any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, memberBodyMax))
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		writeMessage(w, http.StatusBadRequest, "Invalid JSON in request body.")
	}
	return err == nil
}

func (h *Handler) userPut(w http.ResponseWriter, r *http.Request, name string) {
	var in userJSON
	if !readBody(w, r, &in) {
		return
	}
	if in.User != name {
		writeMessage(w, http.StatusBadRequest, "User JSON name does not match the name in the URL")
		return
	}
	op := &command.TreeUser{Name: name, Roles: in.Roles, Grant: in.Grant, Revoke: in.Revoke}
	switch changes := len(in.Grant) > 0 || len(in.Revoke) > 0; {
	case changes && len(in.Roles) > 0:
		writeMessage(w, http.StatusBadRequest, "User JSON contains both roles and grant/revoke")
		return
	case changes:
		op.Mode = command.TreeAccessUpdate
	case len(in.Roles) > 0:
		op.Mode = command.TreeAccessCreate
	}
	if in.Password != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(in.Password), bcrypt.DefaultCost)
		if err != nil { // a password of more than 72 bytes
			writeMessage(w, http.StatusBadRequest, err.Error())
			return
		}
		op.Hash = hash
	}
	result, ok := h.changeAccess(w, r, op)
	if !ok {
		return
	}
	status := http.StatusOK
	if result.Made && op.Mode == command.TreeAccessPut {
		status = http.StatusCreated
	}
	writeJSON(w, status, userJSON{User: name, Roles: result.TreeUser.Roles})
}

func (h *Handler) roleList(w http.ResponseWriter) {
	var list struct {
		Roles []roleJSON `json:"roles"`
	}
	if h.readTree(w, func(t *tree.View) error {
		roles, err := t.Roles()
		for _, r := range roles {
			list.Roles = append(list.Roles, roleOf(&r))
		}
		return err
	}) {
		writeJSON(w, http.StatusOK, list)
	}
}

func (h *Handler) roleItem(w http.ResponseWriter, r *http.Request, name string) {
	switch r.Method {
	case http.MethodGet:
		h.roleGet(w, name)
	case http.MethodDelete:
		if _, ok := h.changeAccess(w, r, &command.TreeRole{Name: name, Mode: command.TreeAccessDelete}); ok {
			w.WriteHeader(http.StatusOK)
		}
	default:
		h.rolePut(w, r, name)
	}
}

func (h *Handler) roleGet(w http.ResponseWriter, name string) {
	var role *tree.Role
	if !h.readTree(w, func(t *tree.View) (err error) {
		role, err = t.Role(name)
		return err
	}) {
		return
	}
	if role == nil {
		writeMessage(w, http.StatusNotFound, "auth: Role "+name+" does not exist.")
		return
	}
	writeJSON(w, http.StatusOK, roleOf(role))
}

func (h *Handler) rolePut(w http.ResponseWriter, r *http.Request, name string) {
	var in roleJSON
	if !readBody(w, r, &in) {
		return
	}
	if in.Role != name {
		writeMessage(w, http.StatusBadRequest, "Role JSON name does not match the name in the URL")
		return
	}
	kv := in.Permissions.KV
	if in.Grant.isEmpty() && in.Revoke.isEmpty() {
		op := &command.TreeRole{Name: name, Mode: command.TreeAccessCreate, Read: kv.Read, Write: kv.Write}
		if _, ok := h.changeAccess(w, r, op); ok {
			writeJSON(w, http.StatusCreated, in)
		}
		return
	}
	if !in.Permissions.isEmpty() {
		writeMessage(w, http.StatusBadRequest, "Role JSON contains both permissions and grant/revoke")
		return
	}
	op := &command.TreeRole{Name: name, Mode: command.TreeAccessUpdate}
	if in.Grant != nil {
		op.GrantRead, op.GrantWrite = in.Grant.KV.Read, in.Grant.KV.Write
	}
	if in.Revoke != nil {
		op.RevokeRead, op.RevokeWrite = in.Revoke.KV.Read, in.Revoke.KV.Write
	}
	if result, ok := h.changeAccess(w, r, op); ok {
		writeJSON(w, http.StatusOK, roleOf(result.TreeRole))
	}
}
