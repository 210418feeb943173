"""What is otherwise where Pods are the endpoints: the agent of a Kubernetes node."""
