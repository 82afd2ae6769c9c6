#!/bin/sh
# What initech will be entitled to in 2099, when its scheduled change has taken effect.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.AuditService/GetTenantAt <<'EOF'
{
  "tenant_id": "initech",
  "time": "2099-06-01T00:00:00Z"
}
EOF
