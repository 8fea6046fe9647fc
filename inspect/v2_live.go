package inspect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"keelson/internal/cli"
	"keelson/snapshot/etcddir"
)

// v2Live reads what an etcd that runs holds in its v2 API.
//
//	auth, hidden ─► keys, at index I ─► store
//
// One answer holds all keys, so they are of one moment. Users, roles and what is hidden take requests of their own; they are of
// the same moment if the index was I before the first of them too. If it was not, all is read again, readsMax times at most.
//
// It belongs to one goroutine.
type v2Live struct {
	client   *http.Client
	base     string // of the endpoint that answers
	bases    []string
	user     string
	password string
	hidden   []string // paths that somebody knows of: no listing shows them
	noUsers  bool     // leave users and roles out
	progress func()   // is told of every node
	silence  time.Duration
}

// v2Found is what a v2Live found.
type v2Found struct {
	store *etcddir.Store
	base  string
	nodes int
	// earlier is how many changes were made between users and hidden keys, and the others. 0: all are of one moment.
	earlier uint64
	// enabled says that users have to say who they are, locked names those whose passwords nobody can read.
	enabled bool
	locked  []string
}

const (
	// readsMax is how often everything is read, in the hope that nobody writes meanwhile.
	readsMax = 5
	// answerBytesMax is beyond what an etcd can hold.
	answerBytesMax = 8 << 30
	// authBytesMax is for the answers about users and roles, and errors.
	authBytesMax = 64 << 20
	// silenceMax is how long an etcd may think about an answer, or about the next part of one.
	silenceMax = 2 * time.Minute
	// passwordBytesMax are those of a password that bcrypt looks at.
	passwordBytesMax = 72
	// dialMax is how long connecting may take.
	dialMax = 5 * time.Second
)

func newV2Live(c cli.Connection) (*v2Live, error) {
	config := &tls.Config{InsecureSkipVerify: c.SkipVerify, MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM: give --cacert the file of whoever signed the server's certificate", c.CACert)
		}
	}
	if c.Cert != "" || c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	scheme := "http://"
	if c.CACert != "" || c.Cert != "" || c.SkipVerify {
		scheme = "https://"
	}
	v := &v2Live{user: c.User, password: c.Password, progress: func() {}, silence: silenceMax}
	for _, e := range c.Endpoints {
		if !strings.Contains(e, "://") {
			e = scheme + e
		}
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, cli.Fail(cli.ExitBadArgs, "%q is no endpoint of a v2 API: give http://HOST:PORT or https://HOST:PORT", e)
		}
		if u.User != nil {
			return nil, cli.Fail(cli.ExitBadArgs, "endpoint %s: users are not taken from endpoints: give --user NAME:PASSWORD", u.Redacted())
		}
		v.bases = append(v.bases, u.Scheme+"://"+u.Host)
	}
	v.client = &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: dialMax, DialContext: (&net.Dialer{Timeout: dialMax}).DialContext,
	}}
	return v, nil
}

// read reads everything.
func (v *v2Live) read(ctx context.Context) (*v2Found, error) {
	if err := v.choose(ctx); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		f, err := v.once(ctx)
		if err != nil || f.earlier == 0 || n == readsMax {
			return f, err
		}
	}
}

// choose takes the first endpoint that serves the v2 API.
func (v *v2Live) choose(ctx context.Context) error {
	var tried []string
	for _, v.base = range v.bases {
		_, err := v.index(ctx)
		if err == nil {
			return nil
		}
		tried = append(tried, err.Error())
	}
	return errors.New(strings.Join(tried, "\n  and: "))
}

// index asks for nothing but the index.
func (v *v2Live) index(ctx context.Context) (uint64, error) {
	r, err := v.get(ctx, "/v2/keys/?quorum=true")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(r.Body, answerBytesMax)); err != nil {
		return 0, fmt.Errorf("%s: %w", v.base, err)
	}
	return indexIn(r)
}

func indexIn(r *http.Response) (uint64, error) {
	index, err := strconv.ParseUint(r.Header.Get("X-Etcd-Index"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: no index in the answer: this is no v2 API of an etcd", r.Request.URL.Redacted())
	}
	return index, nil
}

// get makes a request and returns the answer if it is a good one. Close its body.
func (v *v2Live) get(ctx context.Context, path string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	quiet := time.AfterFunc(v.silence, func() { cancel(fmt.Errorf("nothing has come for %v", v.silence)) })
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil)
	if err != nil {
		return nil, err
	}
	if v.user != "" {
		q.SetBasicAuth(v.user, v.password)
	}
	r, err := v.client.Do(q)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("GET %s%s: %w", v.base, path, cause)
		}
		return nil, fmt.Errorf("%w\n  next:  see whether the endpoint is right and the member runs; with TLS, give an https:// endpoint and --cacert", err)
	}
	r.Body = &attended{ReadCloser: r.Body, ctx: ctx, quiet: quiet, silence: v.silence}
	if r.StatusCode == http.StatusOK {
		return r, nil
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("GET %s%s: %s: %w", v.base, path, r.Status, err)
	}
	return nil, refusedV2{method: "GET " + v.base + path, status: r.StatusCode, said: strings.TrimSpace(string(body)), user: v.user}
}

// refusedV2 is an answer that is not a good one.
type refusedV2 struct {
	method, said, user string
	status             int
}

func (e refusedV2) Error() string {
	next := "the member's log says why; another one (--endpoints), or its directory (--backup-dir), may serve instead"
	switch {
	case strings.Contains(e.said, `"errorCode":100`):
		next = "no such key; leave out that --hidden"
	case e.status == http.StatusNotFound:
		next = "the v2 API is not served there: etcd 3.4 and 3.5 need --enable-v2, and since 3.6 it is gone. " +
			"What such an etcd holds can be taken from its directory: stop it, and give --backup-dir"
	case (e.status == http.StatusUnauthorized || e.status == http.StatusForbidden) && e.user == "":
		next = "users have to say who they are there: give --user root:PASSWORD"
	case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
		next = fmt.Sprintf("the password is wrong, or %s may not read everything: give --user root:PASSWORD", e.user)
	}
	return fmt.Sprintf("%s: %d %s: %s\n  next:  %s", e.method, e.status, http.StatusText(e.status), e.said, next)
}

// once reads everything once.
func (v *v2Live) once(ctx context.Context) (*v2Found, error) {
	before, err := v.index(ctx)
	if err != nil {
		return nil, err
	}
	f := &v2Found{base: v.base}
	var nodes []etcddir.StoreNode
	keep := func(n etcddir.StoreNode) error {
		n.Path = etcddir.StoreKeys + n.Path
		nodes = append(nodes, n)
		v.progress()
		return nil
	}
	for _, path := range hiddenWays(v.hidden) {
		if _, err := v.keys(ctx, path, keep); err != nil {
			return nil, err
		}
	}
	users, err := v.access(ctx, f)
	if err != nil {
		return nil, err
	}
	index, err := v.keys(ctx, "", keep)
	if err != nil {
		return nil, err
	}
	f.nodes = len(nodes)
	if len(v.hidden)+len(users) > 0 {
		f.earlier = index - before
	}
	f.store = etcddir.NewStore(index)
	for _, n := range slices.Concat(nodes, users) {
		if err := f.store.Put(n); err != nil {
			return nil, fmt.Errorf("%s: %w", v.base, err)
		}
	}
	return f, nil
}

// hiddenWays are the directories and files to ask for so as to see some that are hidden: each part of a path that begins with _
// is left out by listings of what is above it.
func hiddenWays(paths []string) (ways []string) {
	for _, p := range paths {
		p = path.Clean("/" + p)
		for at := 0; at+1 < len(p); {
			end := len(p)
			if i := strings.IndexByte(p[at+1:], '/'); i >= 0 {
				end = at + 1 + i
			}
			if p[at+1] == '_' && !slices.Contains(ways, p[:end]) {
				ways = append(ways, p[:end])
			}
			at = end
		}
	}
	return ways
}

// keys reads what is at a path and below, and returns the index as of which it is so.
func (v *v2Live) keys(ctx context.Context, path string, yield func(etcddir.StoreNode) error) (uint64, error) {
	r, err := v.get(ctx, (&url.URL{Path: "/v2/keys" + path + "/"}).EscapedPath()+"?recursive=true&quorum=true")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	index, err := indexIn(r)
	if err != nil {
		return 0, err
	}
	if err := readV2Answer(&boundedReader{r: r.Body, left: answerBytesMax}, yield); err != nil {
		return 0, fmt.Errorf("%s: %w\n  next:  try again, or another member (--endpoints)", r.Request.URL.Redacted(), err)
	}
	return index, nil
}

// access reads users and roles, as the files that etcd keeps them in. Nobody can read passwords; the own one is known.
func (v *v2Live) access(ctx context.Context, f *v2Found) (files []etcddir.StoreNode, err error) {
	if v.noUsers {
		return nil, nil
	}
	var on struct{ Enabled bool }
	if err := v.json(ctx, "/v2/auth/enable", &on); err != nil {
		if e := new(refusedV2); errors.As(err, e) && e.status == http.StatusNotFound {
			return nil, nil // before etcd 2.1 there are no users
		}
		return nil, err
	}
	var users struct {
		Users []struct {
			User  string `json:"user"`
			Roles []struct {
				Role string `json:"role"`
			} `json:"roles"`
		} `json:"users"`
	}
	var roles struct {
		Roles []struct {
			Role        string          `json:"role"`
			Permissions json.RawMessage `json:"permissions"`
		} `json:"roles"`
	}
	err = v.json(ctx, "/v2/auth/users", &users)
	if err == nil {
		err = v.json(ctx, "/v2/auth/roles", &roles)
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n  or:    take the keys alone, with --without-users", err)
	}
	f.enabled = on.Enabled
	file := func(path string, value any) error {
		text, err := json.Marshal(value)
		files = append(files, etcddir.StoreNode{Path: etcddir.StoreAccess + path, Value: string(text)})
		return err
	}
	for _, u := range users.Users {
		record := v2User{User: u.User}
		for _, r := range u.Roles {
			record.Roles = append(record.Roles, r.Role)
		}
		if u.User == v.user && on.Enabled { // else nobody has looked at the password
			// No more of a password than this has ever counted.
			hash, err := bcrypt.GenerateFromPassword([]byte(v.password[:min(len(v.password), passwordBytesMax)]), bcrypt.DefaultCost)
			if err != nil {
				return nil, err
			}
			record.Password = string(hash)
		} else {
			f.locked = append(f.locked, u.User)
		}
		if err := file("/users/"+u.User, record); err != nil {
			return nil, err
		}
	}
	for _, r := range roles.Roles {
		if r.Role == "root" {
			continue // it is always there
		}
		if err := file("/roles/"+r.Role, v2Role{Role: r.Role, Permissions: r.Permissions}); err != nil {
			return nil, err
		}
	}
	if len(files) > 0 || on.Enabled {
		err = file("/enabled", on.Enabled)
	}
	return files, err
}

// v2User and v2Role are how etcd writes down users and roles.
type (
	v2User struct {
		User     string   `json:"user"`
		Password string   `json:"password"`
		Roles    []string `json:"roles"`
	}
	v2Role struct {
		Role        string          `json:"role"`
		Permissions json.RawMessage `json:"permissions"`
	}
)

func (v *v2Live) json(ctx context.Context, path string, to any) error {
	r, err := v.get(ctx, path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if err := json.NewDecoder(&boundedReader{r: r.Body, left: authBytesMax}).Decode(to); err != nil {
		return fmt.Errorf("GET %s%s: not what etcd 2.2 and later answer: %w", v.base, path, err)
	}
	return nil
}

// attended is a body whose request is ended when nothing has come for too long.
type attended struct {
	io.ReadCloser
	ctx     context.Context
	quiet   *time.Timer // ends ctx
	silence time.Duration
}

func (a *attended) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.quiet.Reset(a.silence)
	if err != nil && err != io.EOF && context.Cause(a.ctx) != nil {
		err = context.Cause(a.ctx)
	}
	return n, err
}

func (a *attended) Close() error {
	a.quiet.Stop()
	return a.ReadCloser.Close()
}

// boundedReader fails beyond a number of bytes.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer is longer than any etcd's")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
