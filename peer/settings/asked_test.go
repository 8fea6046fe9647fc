package settings

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// askTimeout is how long an answer may take before it counts as none.
const askTimeout = 20 * time.Second

// ask asks a member that serves about itself at its client address, with TLS and without, and returns the answers, but for what
// is of the moment. A member that has no such address gives none.
func ask(address string) (answers []string) {
	config := &tls.Config{InsecureSkipVerify: true}
	if pair, err := tls.LoadX509KeyPair(filepath.Join(files, "server.pem"), filepath.Join(files, "server.key")); err == nil {
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: askTimeout}
	for _, scheme := range []string{"http", "https"} {
		for _, path := range []string{"/health", "/version", "/v3/cluster/member/list", "/v3/maintenance/status"} {
			if answer := answerTo(client, scheme+"://"+address+path); answer != "" {
				answers = append(answers, scheme+" "+path+" "+answer)
			}
		}
	}
	return answers
}

// answerTo is the status and the body of an answer; empty: there is none, or one that says only that TLS is missing.
func answerTo(client *http.Client, url string) string {
	request, err := http.NewRequest("GET", url, nil)
	if strings.Contains(url, "/v3/") {
		request, err = http.NewRequest("POST", url, strings.NewReader("{}"))
	}
	if err != nil {
		return err.Error()
	}
	answer, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode == http.StatusBadRequest && strings.Contains(string(body), "HTTPS server") {
		return ""
	}
	var fields map[string]any
	if json.Unmarshal(body, &fields) != nil {
		return fmt.Sprint(answer.StatusCode, " ", strings.TrimSpace(string(body)))
	}
	return fmt.Sprint(answer.StatusCode, " ", strings.Join(fieldsIn(fields, ""), ", "))
}

// ofTheMoment are fields whose values follow from time, chance and the form of the data; storage versions, from how long ago
// the start was.
var ofTheMoment = []string{"cluster_id", "member_id", "raft_term", "raftTerm", "raftIndex", "raftAppliedIndex", "leader", "dbSize", "dbSizeInUse", "storage", "storageVersion", "etcdcluster", "ID", "revision", "downgradeInfo"}

// fieldsIn are the fields of an answer in order, each with its value.
func fieldsIn(fields map[string]any, above string) (list []string) {
	for name, value := range fields {
		switch value := value.(type) {
		case map[string]any:
			list = append(list, fieldsIn(value, above+name+".")...)
		case []any:
			for _, element := range value {
				if inner, ok := element.(map[string]any); ok {
					list = append(list, fieldsIn(inner, above+name+".")...)
				} else {
					list = append(list, fmt.Sprint(above, name, "=", element))
				}
			}
		default:
			if !slices.Contains(ofTheMoment, name) {
				list = append(list, fmt.Sprint(above, name, "=", value))
			}
		}
	}
	slices.Sort(list)
	return list
}
