package node

import "context"

// flowKey is where a context carries its flow.
type flowKey struct{}

// WithFlow says to which flow the requests belong that are made with the context. When more is asked than a member can do, flows
// take turns, so that one does not wait for all that another has asked. A flow is any comparable value; usually there is one for
// each connection. Requests without one make up a flow together.
func WithFlow(ctx context.Context, flow any) context.Context {
	return context.WithValue(ctx, flowKey{}, flow)
}

// FlowOf is the flow that the context was given.
func FlowOf(ctx context.Context) any { return ctx.Value(flowKey{}) }
