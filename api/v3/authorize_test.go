package v3

import (
	"testing"

	"google.golang.org/grpc"
)

// registered are the full names of all methods of all services.
func registered(s *server) (methods []string) {
	g := grpc.NewServer()
	s.services.Register(g)
	for service, info := range g.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, "/"+service+"/"+m.Name)
		}
	}
	return methods
}

// Every method has its rule, and every rule its method (S5).
func TestEveryMethodHasItsRule(t *testing.T) {
	methods := registered(serve(t, nil))
	left := map[string]bool{}
	for method := range rules {
		left[method] = true
	}
	for _, method := range methods {
		if !left[method] {
			t.Errorf("%s has no row in the table of rules: say there who may call it", method)
		}
		delete(left, method)
	}
	for method := range left {
		t.Errorf("%s has a row in the table of rules, and is served by nobody", method)
	}
}
