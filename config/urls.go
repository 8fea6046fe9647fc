package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// URLs is a list of addresses, sorted, without duplicates.
type URLs []url.URL

// Set replaces the list by the comma-separated one in s; an empty s leaves it as it is.
func (u *URLs) Set(s string) error {
	if s == "" {
		return nil
	}
	list, err := parseURLs(strings.Split(s, ","))
	if err != nil {
		return err
	}
	*u = list
	return nil
}

// String joins the list with commas.
func (u URLs) String() string { return strings.Join(u.Strings(), ",") }

// Strings is the list as strings.
func (u URLs) Strings() []string {
	list := make([]string, len(u))
	for i := range u {
		list[i] = u[i].String()
	}
	return list
}

func (u URLs) contains(one url.URL) bool {
	return slices.ContainsFunc(u, func(x url.URL) bool { return x.String() == one.String() })
}

// parseURLs parses each element of list, sorts them and drops what is there twice.
func parseURLs(list []string) (URLs, error) {
	urls := make(URLs, 0, len(list))
	for _, s := range list {
		u, err := parseURL(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		urls = append(urls, u)
	}
	slices.SortFunc(urls, func(a, b url.URL) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(urls, func(a, b url.URL) bool { return a.String() == b.String() }), nil
}

// parseURL applies the rules that hold for every URL: a known scheme, host and port, no path.
func parseURL(s string) (url.URL, error) {
	if isUnix(s) {
		return parseUnixURL(s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return url.URL{}, err
	}
	switch u.Scheme {
	case "http", "https":
	default:
		return url.URL{}, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", s)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return url.URL{}, fmt.Errorf("URL address does not have the form \"host:port\": %s", s)
	}
	if u.Path != "" {
		return url.URL{}, fmt.Errorf("URL must not contain a path: %s", s)
	}
	return *u, nil
}

func isUnix(s string) bool { return strings.HasPrefix(s, "unix:") || strings.HasPrefix(s, "unixs:") }

// parseUnixURL accepts unix:///abs/path, unix:/abs/path, unix:rel and unix://host:port, the last naming a file in the working
// directory. Each prints as it was given.
func parseUnixURL(s string) (url.URL, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	path, hasHost := strings.CutPrefix(rest, "//")
	switch {
	case path == "":
		return url.URL{}, fmt.Errorf("URL must contain the path of a socket: %s", s)
	case !hasHost && path[0] == '/':
		return url.URL{Scheme: scheme, Path: path, OmitHost: true}, nil
	case !hasHost:
		return url.URL{Scheme: scheme, Opaque: path}, nil
	}
	host, rest, found := strings.Cut(path, "/")
	if found {
		rest = "/" + rest
	}
	return url.URL{Scheme: scheme, Host: host, Path: rest}, nil
}

// SocketPath is the file of a unix URL; empty for the other schemes.
func SocketPath(u url.URL) string {
	switch u.Scheme {
	case "unix", "unixs":
		return u.Opaque + u.Host + u.Path
	}
	return ""
}

// Secure reports whether the URL asks for TLS.
func Secure(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

// checkBinding refuses addresses that can't be listened on.
func checkBinding(urls URLs) error {
	for _, u := range urls {
		if SocketPath(u) != "" || u.Hostname() == "localhost" {
			continue
		}
		if net.ParseIP(u.Hostname()) == nil {
			return fmt.Errorf("expected IP in URL for binding (%s)", u.String())
		}
	}
	return nil
}

// checkAdvertised refuses addresses that nobody else could dial.
func checkAdvertised(urls URLs) error {
	for _, u := range urls {
		if SocketPath(u) == "" && u.Hostname() == "" {
			return fmt.Errorf("unexpected empty host (%s)", u.String())
		}
	}
	return nil
}
