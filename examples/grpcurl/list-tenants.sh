#!/bin/sh
# Tenants on gold in the US.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.TenantService/ListTenants <<'EOF'
{
  "plan_id": "gold",
  "labels": {"region": "us"}
}
EOF
