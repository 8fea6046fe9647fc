package peer

import (
	"net/url"
	"testing"
)

func TestAddressesOfPeers(t *testing.T) {
	for _, c := range []struct{ base, url, file string }{
		{"http://10.0.0.1:2380", "http://10.0.0.1:2380/members", ""},
		{"https://[::1]:2380/", "https://[::1]:2380/members", ""},
		{"unix:///run/a b/m.sock", "http://2f72756e2f6120622f6d2e736f636b.socket/members", "/run/a b/m.sock"},
		{"unixs://localhost:2380", "https://6c6f63616c686f73743a32333830.socket/members", "localhost:2380"},
	} {
		got := urlOf(c.base, "/members")
		u, err := url.Parse(got)
		if got != c.url || err != nil {
			t.Errorf("%s: %s, %v, want %s", c.base, got, err, c.url)
			continue
		}
		address := u.Host
		if u.Port() == "" {
			address += ":80"
		}
		if file, ok := socketOf(address); file != c.file || ok != (c.file != "") {
			t.Errorf("%s stands for %q, %t", address, file, ok)
		}
	}
	if file, ok := socketOf("nothex.socket:80"); ok {
		t.Errorf("a host of that name stands for %q", file)
	}
}
