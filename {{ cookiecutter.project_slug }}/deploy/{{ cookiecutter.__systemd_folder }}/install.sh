#!/bin/bash
# Install this release of the site on this machine, as root, from the folder of the project:
#
#     deploy/systemd/install.sh example.com
#
# Run it again for each new release. What is there already stays: the settings, the database,
# the releases before. Until the new release is complete and its migrations have run, the
# old one serves; if the new one does not work, the old one comes back, with its units.

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
    stop "$domain is no domain: lower-case letters, digits, hyphens and dots, without https://."
[ "$(id -u)" = 0 ] || stop "This needs root: sudo deploy/systemd/install.sh $domain"

cd "$(dirname "$0")/../.."
umask 022

# Two at once would take each other's links; it is unlocked as the script ends.
exec 9> "/run/$site-install.lock"
flock --nonblock 9 || stop "Another run of this script is under way. Let it end, and run this again."

# What has to be there

command -v nginx > /dev/null || stop "nginx is not on this machine: sudo apt-get install nginx"
[ -d /etc/nginx/sites-enabled ] ||
    stop "This nginx has no folder /etc/nginx/sites-enabled. That of Debian or Ubuntu has."
command -v uv > /dev/null ||
    stop "root does not find uv. Install it into /usr/local/bin:" \
        "https://docs.astral.sh/uv/getting-started/installation/"
[ -e uv.lock ] ||
    stop "There is no uv.lock, which says what is installed: run 'uv lock', commit the file," \
        "and run this again."

# One of these names may be that of another program, whose folder would be taken over.
if [ ! -e "$settings" ]; then
    for folder in "/etc/$site" "/opt/$site" "/var/lib/$site"; do
        [ ! -e "$folder" ] || stop "$folder is there already, and $settings is not." \
            "If it belongs to another program, this site cannot be installed as $site."
    done
    ! id "$user" > /dev/null 2>&1 || stop "There is a user $user already, of something else."
fi

# The settings, once

if [ ! -e "$settings" ]; then
    mkdir -m 700 "/etc/$site"
    secret=$(head -c 48 /dev/urandom | base64 --wrap=0 | tr '+/' '-_')
    (
        umask 077
        sed -e "s/^DJANGO_SECRET_KEY=$/&$secret/" -e "s/example\.com/$domain/" \
            deploy/systemd/environment > "$settings.new"
    )
    mv "$settings.new" "$settings"
    echo "$settings is new. Look through it."
fi
{% if cookiecutter.__postgresql %}
grep -q '^DATABASE_URL=.' "$settings" ||
    stop "Which database? Fill in DATABASE_URL in $settings and run this again."
{% endif %}
hosts=$(sed -n 's/^DJANGO_ALLOWED_HOSTS=//p' "$settings" | tail -n 1 | tr -d "\"' ")
[[ ,$hosts, == *",$domain,"* ]] ||
    stop "DJANGO_ALLOWED_HOSTS in $settings does not name $domain. Add it and run this again."

# The certificate, which nginx has to help to get

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
    stop "" "The new release is not complete, see above. What served before still does."
}
trap give_up EXIT

# Nothing but this: no .env, no database of development.
tar --create --exclude=__pycache__ config serving "$site" \
    manage.py pyproject.toml uv.lock .python-version deploy/systemd/nginx.conf "deploy/systemd/$site-"* |
    tar --extract --no-same-owner --directory="$release"
(
    cd "$release"
    # Not in /root, where the site's user could not read it.
    export UV_PYTHON_INSTALL_DIR=/opt/$site/python
    export UV_PROJECT_ENVIRONMENT=.venv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
    uv sync --quiet --locked --no-dev
    .venv/bin/python -m compileall -q config serving "$site"
    # The settings want values that this command has no use for.
    env -i DJANGO_SECRET_KEY=unused DJANGO_ALLOWED_HOSTS=unused{% if cookiecutter.__postgresql %} DATABASE_URL=postgresql:///unused{% endif %} \
        .venv/bin/python manage.py collectstatic --no-input --verbosity 0
)
# For the site's user to read, however the checkout was, and not to write.
chmod -R u=rwX,go=rX "$release"

# As the site's user, with the settings and in the confines of its servers.
ln -sfn "releases/$name" "/opt/$site/next"
install -m 644 "$release/deploy/systemd/$site-migrate.service" "$units/"
systemctl daemon-reload
systemctl start "$site-migrate.service" || {
    journalctl --unit="$site-migrate.service" --lines=30 --no-pager --output=cat >&2
    stop "" "It does not pass its checks or migrations."
}

# From the old release to the new one

# Within 30 seconds: a second between attempts, and 5 for each of them.
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

# Each step says itself whether to go on: where it matters how a function ends, bash does not
# heed set -e in it.
switch_to() {
    local role
    ln -sfn "$1" "/opt/$site/next" && mv -T "/opt/$site/next" "/opt/$site/current" || return 1
    # With its units, which may be what does not work.
    install -m 644 "/opt/$site/current/deploy/systemd/$site-"*.{socket,service} "$units/" &&
        systemctl daemon-reload || return 1
    # One after the other; new connections wait in the sockets, which start with the services.
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
    switch_to "$previous" || stop "Nor does the one before, $previous, to which it is set back."
    rm -rf "$release"
    stop "$previous serves again; migrations stay as they are."
fi

# nginx

mkdir -p /var/www/letsencrypt
old=$(mktemp)
cp "$available" "$old" 2> /dev/null || true
sed "s/example\.com/$domain/g" "$release/deploy/systemd/nginx.conf" > "$available"
ln -sf "$available" "$enabled"
nginx -t -q || {
    cp "$old" "$available"
    stop "nginx does not accept the new deploy/systemd/nginx.conf, see above, and runs on with the old."
}
rm "$old"
systemctl reload-or-restart nginx

# The three newest releases stay, to go back to.
find "/opt/$site/releases" -mindepth 1 -maxdepth 1 -type d -name '2*' | sort -r | tail -n +4 |
    while read -r folder; do
        [ "$folder" = "$(realpath "/opt/$site/current")" ] || rm -rf "$folder"
    done
echo "https://$domain runs release $name."
