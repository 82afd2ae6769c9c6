#!/bin/sh
# Moves globex to gold in 2099. Running it again does it once.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.TenantService/ChangePlan <<'EOF'
{
  "tenant_id": "globex",
  "plan_id": "gold",
  "at": "2099-01-01T00:00:00Z",
  "request_id": "example-change-plan-globex"
}
EOF
