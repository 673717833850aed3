#!/bin/bash
# Install this release of the site on this machine, as root, from the folder of the project:
#
#     deploy/systemd/install.sh example.com
#
# Run it again for each new release. It keeps the settings, the database and the old releases.
# The old release serves until the new one is complete and migrated. If the new release does not
# work, the script goes back to the old release and its units.

set -euo pipefail

site={{ cookiecutter.project_slug }}
user={{ cookiecutter.project_slug[:31] }}
{% if cookiecutter.__both %}
roles=(pages live)
{% else %}
roles=(web)
{% endif %}
settings=/etc/$site/environment
units=/etc/systemd/system

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

[ $# = 1 ] || stop "Which domain? Use: deploy/systemd/install.sh example.com"
domain=$1
[[ $domain =~ ^[a-z0-9-]+(\.[a-z0-9-]+)+$ ]] ||
    stop "$domain is not a domain: use lower-case letters, digits, hyphens and dots, without https://."
[ "$(id -u)" = 0 ] || stop "This needs root: sudo deploy/systemd/install.sh $domain"

cd "$(dirname "$0")/../.."
umask 022

# Two runs at the same time would conflict. The lock is released when the script ends.
exec 9> "/run/$site-install.lock"
flock --nonblock 9 || stop "Another run of this script is active. Wait until it ends, and run this again."

# Requirements

command -v nginx > /dev/null || stop "nginx is not installed. Run: sudo apt-get install nginx"
[ -d /etc/nginx/sites-enabled ] ||
    stop "The folder /etc/nginx/sites-enabled is missing. Use the nginx of Debian or Ubuntu."
command -v uv > /dev/null ||
    stop "root does not find uv. Install it into /usr/local/bin:" \
        "https://docs.astral.sh/uv/getting-started/installation/"
[ -e uv.lock ] ||
    stop "There is no uv.lock, which says what is installed. Run 'uv lock', commit the file," \
        "and run this again."

# Another program may use the same name. Do not take over its folders.
if [ ! -e "$settings" ]; then
    for folder in "/etc/$site" "/opt/$site" "/var/lib/$site"; do
        [ ! -e "$folder" ] || stop "$folder exists already, but $settings does not." \
            "If it belongs to another program, this site cannot be installed as $site."
    done
    ! id "$user" > /dev/null 2>&1 || stop "The user $user exists already, for another program."
fi

# The settings, created once

if [ ! -e "$settings" ]; then
    mkdir -m 700 "/etc/$site"
    secret=$(head -c 48 /dev/urandom | base64 --wrap=0 | tr '+/' '-_')
    (
        umask 077
        sed -e "s/^DJANGO_SECRET_KEY=$/&$secret/" -e "s/example\.com/$domain/" \
            deploy/systemd/environment > "$settings.new"
    )
    mv "$settings.new" "$settings"
    echo "Created $settings. Check its values."
fi
{% if cookiecutter.__postgresql %}
grep -q '^DATABASE_URL=.' "$settings" ||
    stop "Which database? Fill in DATABASE_URL in $settings and run this again."
{% endif %}
hosts=$(sed -n 's/^DJANGO_ALLOWED_HOSTS=//p' "$settings" | tail -n 1 | tr -d "\"' ")
[[ ,$hosts, == *",$domain,"* ]] ||
    stop "DJANGO_ALLOWED_HOSTS in $settings does not name $domain. Add it and run this again."

# The certificate. nginx answers the challenge of the authority

certificate=/etc/letsencrypt/live/$domain
available=/etc/nginx/sites-available/$site
enabled=/etc/nginx/sites-enabled/$site
if [ ! -e "$certificate/fullchain.pem" ]; then
    mkdir -p /var/www/letsencrypt
    if [ ! -e "$available" ]; then
        printf 'server {\n    listen 80;\n    listen [::]:80;\n    server_name %s;\n%s\n}\n' "$domain" \
            '    location /.well-known/acme-challenge/ { root /var/www/letsencrypt; }' > "$available"
        ln -sf "$available" "$enabled"
        nginx -t -q
        systemctl reload-or-restart nginx
    fi
    stop "There is no certificate in $certificate. Get one and run this again:" \
        "sudo apt-get install certbot" \
        "sudo certbot certonly --webroot -w /var/www/letsencrypt -d $domain --deploy-hook 'systemctl reload nginx'"
fi

# The new release, beside the others

id "$user" > /dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin "$user"

name=$(date -u +%Y%m%d-%H%M%S)
release=/opt/$site/releases/$name
mkdir -p "/opt/$site/releases"
mkdir "$release"
give_up() {
    rm -rf "$release" "/opt/$site/next"
    stop "" "The new release is not complete, see above. The old one still serves."
}
trap give_up EXIT

# A list, so that no .env and no development database is copied.
tar --create --exclude=__pycache__ config serving "$site" \
    manage.py pyproject.toml uv.lock .python-version deploy/systemd/nginx.conf "deploy/systemd/$site-"* |
    tar --extract --no-same-owner --directory="$release"
(
    cd "$release"
    # The default is in /root, which the site's user cannot read.
    export UV_PYTHON_INSTALL_DIR=/opt/$site/python
    export UV_PROJECT_ENVIRONMENT=.venv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
    uv sync --quiet --locked --no-dev
    .venv/bin/python -m compileall -q config serving "$site"
    # The settings require these variables, but this command does not use them.
    env -i DJANGO_SECRET_KEY=unused DJANGO_ALLOWED_HOSTS=unused{% if cookiecutter.__postgresql %} DATABASE_URL=postgresql:///unused{% endif %} \
        .venv/bin/python manage.py collectstatic --no-input --verbosity 0
)
# The site's user can read the release, but not change it.
chmod -R u=rwX,go=rX "$release"

# Runs as the site's user, with the settings and the restrictions of its servers.
ln -sfn "releases/$name" "/opt/$site/next"
install -m 644 "$release/deploy/systemd/$site-migrate.service" "$units/"
systemctl daemon-reload
systemctl start "$site-migrate.service" || {
    journalctl --unit="$site-migrate.service" --lines=30 --no-pager --output=cat >&2
    stop "" "The checks or the migrations of the new release have failed."
}

# The switch from the old release to the new one

# Tries for 30 seconds, with a timeout of 5 and a pause of one second.
answers() {
    local port end=$((SECONDS + 30))
    port=$(sed -n 's/^ListenStream=.*://p' "$units/$site-$1.socket")
    while [ "$SECONDS" -lt "$end" ]; do
        "/opt/$site/current/.venv/bin/python" -c 'import sys, urllib.request as r
r.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health/ready", timeout=5)' "$port" 2> /dev/null && return
        sleep 1
    done
    return 1
}

# Each step needs `|| return 1`: bash ignores set -e in a function that is called in a
# condition.
switch_to() {
    local role
    ln -sfn "$1" "/opt/$site/next" && mv -T "/opt/$site/next" "/opt/$site/current" || return 1
    # The units as well: they may be the cause of a failure.
    install -m 644 "/opt/$site/current/deploy/systemd/$site-"*.{socket,service} "$units/" &&
        systemctl daemon-reload || return 1
    # One after the other. New connections wait in the sockets, which systemd keeps open.
    for role in "${roles[@]}"; do
        systemctl enable --quiet "$site-$role.socket" "$site-$role.service" &&
            systemctl restart "$site-$role.service" && answers "$role" || return 1
    done
}

previous=$(readlink "/opt/$site/current" || true)
trap - EXIT
if ! switch_to "releases/$name"; then
    printf '\n%s\n' "The new release does not answer. See: journalctl --unit='$site-*'" >&2
    [ -n "$previous" ] || exit 1
    switch_to "$previous" || stop "The old release, $previous, is active again, but does not answer either."
    rm -rf "$release"
    stop "The old release, $previous, serves again. Migrations were not undone."
fi

# nginx

mkdir -p /var/www/letsencrypt
old=$(mktemp)
cp "$available" "$old" 2> /dev/null || true
sed "s/example\.com/$domain/g" "$release/deploy/systemd/nginx.conf" > "$available"
ln -sf "$available" "$enabled"
nginx -t -q || {
    cp "$old" "$available"
    stop "nginx refuses the new deploy/systemd/nginx.conf, see above. It still uses the old one."
}
rm "$old"
systemctl reload-or-restart nginx

# Keep the newest three releases, for a rollback.
find "/opt/$site/releases" -mindepth 1 -maxdepth 1 -type d -name '2*' | sort -r | tail -n +4 |
    while read -r folder; do
        [ "$folder" = "$(realpath "/opt/$site/current")" ] || rm -rf "$folder"
    done
echo "https://$domain serves release $name."
