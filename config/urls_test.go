package config

import "testing"

func TestURLs(t *testing.T) {
	good := map[string]string{
		"":                                   "",
		"http://b:2,http://a:1,http://b:2":   "http://a:1,http://b:2",
		"https://10.0.0.1:2379":              "https://10.0.0.1:2379",
		"http://[::1]:1":                     "http://[::1]:1",
		"http://:2379":                       "http://:2379",
		"http://a:1, http://c:3":             "http://a:1,http://c:3",
		"unix://localhost:2379,http://h:0":   "http://h:0,unix://localhost:2379",
		"unix:///abs/x.sock,unix:rel/y":      "unix:///abs/x.sock,unix:rel/y",
		"unix:/abs/x.sock":                   "unix:/abs/x.sock",
		"unixs://rel.sock,unix://other.sock": "unix://other.sock,unixs://rel.sock",
	}
	for text, want := range good {
		var u URLs
		if err := u.Set(text); err != nil || u.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, u, err, want)
		}
	}
	bad := map[string]string{
		"ftp://a:1":       "URL scheme must be http, https, unix, or unixs: ftp://a:1",
		"a:1":             "URL scheme must be http, https, unix, or unixs: a:1",
		"http://a":        `URL address does not have the form "host:port": http://a`,
		"http://a:1/path": "URL must not contain a path: http://a:1/path",
		"http://a:1/":     "URL must not contain a path: http://a:1/",
		"unix://":         "URL must contain the path of a socket: unix://",
	}
	for text, want := range bad {
		var u URLs
		if err := u.Set(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestSocketPath(t *testing.T) {
	paths := map[string]string{
		"unix:///abs/path":      "/abs/path",
		"unix:/abs/path":        "/abs/path",
		"unix:rel":              "rel",
		"unix://localhost:2379": "localhost:2379",
		"unixs://a/b":           "a/b",
		"http://localhost:2379": "",
	}
	for text, want := range paths {
		u, err := parseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := SocketPath(u); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
