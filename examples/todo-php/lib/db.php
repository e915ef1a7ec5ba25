<?php
// PDO on SQLite or MySQL. Every value goes in as a parameter; nothing is ever pasted into a statement.
declare(strict_types=1);

function db(): PDO
{
    static $db = null;
    if ($db === null) {
        $db = new PDO(setting('TODO_DSN'), setting('TODO_DB_USER') ?: null, setting('TODO_DB_PASSWORD') ?: null, [
            PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
            PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
            PDO::ATTR_EMULATE_PREPARES => false,
            PDO::ATTR_TIMEOUT => 3,
        ]);
        if ($db->getAttribute(PDO::ATTR_DRIVER_NAME) === 'sqlite') {
            $db->exec('PRAGMA foreign_keys = ON');
        } else {
            $db->exec('SET NAMES utf8mb4');
        }
    }
    return $db;
}

function run(string $sql, array $values = []): PDOStatement
{
    $statement = db()->prepare($sql);
    $statement->execute($values);
    return $statement;
}

function all(string $sql, array $values = []): array
{
    return run($sql, $values)->fetchAll();
}

function one(string $sql, array $values = []): ?array
{
    return run($sql, $values)->fetch() ?: null;
}
