package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// loadFile replaces everything that flags gave by what the file at path gives. Environment variables are not looked at.
//
// The file is YAML or JSON. Unknown keys are ignored, of keys that are there twice the last one counts, and an empty
// value leaves the default.
func (l *loader) loadFile(path string) error {
	l.reset()
	clear(l.given)
	clear(l.from)
	l.old = nil
	l.config.File = path

	data, err := l.machine.ReadFile(path)
	if err != nil {
		return l.refuse(err)
	}
	root, err := decodeFile(data)
	if err != nil {
		return l.refuse(err)
	}
	for _, s := range l.all {
		value, err := lookUp(root, s.key)
		if err != nil {
			return l.refuse(err)
		}
		if value == nil {
			continue
		}
		if err := l.loadKey(s, value); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) loadKey(s *setting, value any) error {
	err := s.assign(value)
	if err == nil {
		if value != "" {
			l.give(s.title(), "file")
		}
		return nil
	}
	if _, isURLs := s.field.Interface().(URLs); isURLs {
		if _, isText := value.(string); isText {
			cause := fmt.Sprintf("unexpected error setting up %s: %v", nameInURLError(s.name), err)
			return &Exit{Code: 1, Stderr: cause + "\n", Notes: l.notes, cause: cause}
		}
	}
	return l.refuse(err)
}

// nameInURLError is the name that etcd gives the setting in this message, including its slip.
func nameInURLError(name string) string {
	if name == "advertise-client-urls" {
		return "advertise-peer-urls"
	}
	return name
}

func decodeFile(data []byte) (map[string]any, error) {
	document, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("error converting YAML to JSON: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var root any
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("error unmarshaling JSON: %w", err)
	}
	switch root := root.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return root, nil
	}
	return nil, fmt.Errorf("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal %s into the configuration", kindOf(root))
}

// lookUp follows path through nested maps; nil: there is nothing. Keys are compared without regard to case.
func lookUp(root map[string]any, path []string) (any, error) {
	if path == nil {
		return nil, nil
	}
	value := valueOf(root, path[0])
	for depth, key := range path[1:] {
		if value == nil || value == "" {
			return nil, nil
		}
		inner, isMap := value.(map[string]any)
		if !isMap {
			return nil, fmt.Errorf("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal %s into %s of type map",
				kindOf(value), strings.Join(path[:depth+1], "."))
		}
		value = valueOf(inner, key)
	}
	return value, nil
}

func valueOf(m map[string]any, key string) any {
	if value, ok := m[key]; ok {
		return value
	}
	var found string
	for k := range m {
		if strings.EqualFold(k, key) && k > found {
			found = k
		}
	}
	return m[found]
}

// assign gives the setting a decoded JSON value. Durations are numbers of nanoseconds, lists are arrays or, where flags
// take them so, texts with commas.
func (s *setting) assign(value any) error {
	if value == "" {
		return nil
	}
	field := s.field
	if text, ok := field.Addr().Interface().(textual); ok {
		if v, ok := value.(string); ok {
			return text.Set(v)
		}
		return s.mismatch(value)
	}
	switch v := value.(type) {
	case string:
		switch {
		case field.Kind() == reflect.String:
			field.SetString(v)
			return nil
		case field.Type() == stringsType:
			return s.Set(v)
		}
	case bool:
		switch field.Kind() {
		case reflect.Bool:
			field.SetBool(v)
			return nil
		case reflect.String:
			field.SetString(strconv.FormatBool(v))
			return nil
		}
	case json.Number:
		return s.assignNumber(v)
	case []any:
		return s.assignList(v)
	}
	return s.mismatch(value)
}

func (s *setting) assignNumber(n json.Number) error {
	switch {
	case s.field.Kind() == reflect.String:
		s.field.SetString(n.String())
		return nil
	case s.field.CanInt():
		v, err := strconv.ParseInt(n.String(), 10, s.field.Type().Bits())
		if err == nil {
			s.field.SetInt(v)
			return nil
		}
	case s.field.CanUint():
		v, err := strconv.ParseUint(n.String(), 10, s.field.Type().Bits())
		if err == nil {
			s.field.SetUint(v)
			return nil
		}
	}
	return s.mismatch(n)
}

func (s *setting) assignList(list []any) error {
	if s.field.Type() != stringsType {
		return s.mismatch(list)
	}
	if len(list) == 0 {
		return nil
	}
	var texts []string
	for _, element := range list {
		text, ok := element.(string)
		if !ok {
			return s.mismatch(element)
		}
		texts = append(texts, text)
	}
	s.field.Set(reflect.ValueOf(texts))
	return nil
}

func (s *setting) mismatch(value any) error {
	what := kindOf(value)
	if n, ok := value.(json.Number); ok && (s.field.CanInt() || s.field.CanUint()) {
		what = "number " + n.String()
	}
	return fmt.Errorf("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal %s into %s of type %v",
		what, strings.Join(s.key, "."), s.field.Type())
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "bool"
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}
