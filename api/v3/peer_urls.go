package v3

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// parsePeerURLs checks the addresses under which a new member is to be reached, and returns them without blanks around
// them, sorted. There must be one at least. An address is http or https with host, port and nothing behind them, or unix
// or unixs.
//
// Source: etcd v3 API, Cluster, MemberAdd.
func parsePeerURLs(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no URL given")
	}
	urls := make([]string, len(list))
	for i, text := range list {
		u, err := url.Parse(strings.TrimSpace(text))
		if err == nil {
			err = checkPeerURL(u)
		}
		if err != nil {
			return nil, err
		}
		urls[i] = u.String()
	}
	slices.Sort(urls)
	return urls, nil
}

func checkPeerURL(u *url.URL) error {
	switch u.Scheme {
	case "unix", "unixs":
		return nil
	case "http", "https":
	default:
		return fmt.Errorf("scheme %q is not one of http, https, unix, unixs", u.Scheme)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return err
	}
	if u.Path != "" {
		return fmt.Errorf("URL has the path %q", u.Path)
	}
	return nil
}
